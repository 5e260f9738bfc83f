"""Where the command ``taskiq-flow`` begins; says what to install where its extra is missing."""

from __future__ import annotations

import sys
from importlib import import_module

from taskiq_flow.cli.exits import Exit
from taskiq_flow.exceptions import MissingExtraError

PACKAGES = ("typer", "rich")


def main() -> int:
    """Run the command line of this process, and return its exit code."""
    for package in PACKAGES:
        try:
            import_module(package)
        except ModuleNotFoundError:
            error = MissingExtraError("The command line", "cli", package)
            sys.stderr.write(f"error: {error}\n")
            return Exit.USAGE
    app = import_module("taskiq_flow.cli.app")
    app.app(prog_name="taskiq-flow")
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
