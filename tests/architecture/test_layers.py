"""Imports go down only; the layers and the further contracts stand in pyproject.toml."""

import re
import subprocess
import sys
import tomllib

from tests.support.tree import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_contract_on_imports_is_kept() -> None:
    # In a process of its own: it turns off every logger that exists by then.
    linting = (
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    )

    linted = subprocess.run(
        [sys.executable, "-c", linting], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_layers_are_exhaustive_so_a_new_module_has_to_choose_one() -> None:
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]

    layers = next(contract for contract in contracts if contract["type"] == "layers")

    assert layers["exhaustive"] is True
    assert "exhaustive_ignores" not in layers
    named = re.findall(r"\w+", " ".join(layers["layers"]))
    assert len(named) == len(set(named))
