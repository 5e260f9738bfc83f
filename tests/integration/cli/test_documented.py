"""The reference of the command line names what there is: commands, exit codes."""

import re

import typer.main

from taskiq_flow.cli.app import app
from taskiq_flow.cli.exits import Exit
from tests.support.tree import ROOT

REFERENCE = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
HOW_TO = (ROOT / "docs" / "how-to" / "command-line.md").read_text(encoding="utf-8")


def commands() -> set[str]:
    root = typer.main.get_command(app)
    found: set[str] = set()
    for name, one in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(one, "commands", None)
        found |= {f"{name} {each}" for each in inner} if inner else {name}
    return found


def test_every_command_is_documented_and_shown_in_use() -> None:
    for name in commands():
        assert f"`{name}" in REFERENCE or f"`{name.split()[-1]}`" in REFERENCE, name
        assert f"taskiq-flow {name}" in HOW_TO, name


def test_the_table_of_exit_codes_is_complete() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", REFERENCE, re.MULTILINE)}

    assert documented == set(map(int, Exit))


def test_every_command_has_the_options_that_all_have() -> None:
    root = typer.main.get_command(app)
    for one in root.commands.values():  # type: ignore[attr-defined]
        for each in getattr(one, "commands", {"": one}).values():
            names = {option for param in each.params for option in param.opts}
            assert {"--store", "--namespace", "--json", "--debug"} <= names, each.name
