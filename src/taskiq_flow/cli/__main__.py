"""Where the command ``taskiq-flow`` begins; says what to install where its extra is missing."""

from __future__ import annotations

import sys
from importlib import import_module

PACKAGES = ("typer", "rich")


def main() -> int:
    """Run the command line of this process, and return its exit code."""
    for package in PACKAGES:
        try:
            import_module(package)
        except ModuleNotFoundError:
            return _say_missing(package)
    import_module("taskiq_flow.cli.app").app(prog_name="taskiq-flow")
    return 0


def _say_missing(package: str) -> int:
    # Loaded only here: our exceptions load Taskiq, for which nobody waits who asks for the help.
    missing = import_module("taskiq_flow.exceptions").MissingExtraError
    sys.stderr.write(f"error: {missing('The command line', 'cli', package)}\n")
    return int(import_module("taskiq_flow.cli.exits").Exit.USAGE)


if __name__ == "__main__":
    sys.exit(main())
