"""The reference of the command line names what there is: commands, exit codes."""

import re

import typer.main

from taskiq_flow.cli.app import LoadedLater, app
from taskiq_flow.cli.exits import Exit
from tests.support.tree import ROOT

REFERENCE = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
HOW_TO = (ROOT / "docs" / "how-to" / "command-line.md").read_text(encoding="utf-8")


def top_level() -> dict[str, LoadedLater]:
    return typer.main.get_command(app).commands  # type: ignore[attr-defined]


def commands() -> set[str]:
    found: set[str] = set()
    for name, one in top_level().items():
        inner = getattr(one.load(), "commands", None)
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
    for entry in top_level().values():
        one = entry.load()
        for each in getattr(one, "commands", {"": one}).values():
            names = {option for param in each.params for option in param.opts}
            assert {"--store", "--namespace", "--json", "--debug"} <= names, each.name


def test_the_help_says_of_every_command_what_it_says_of_itself() -> None:
    for name, entry in top_level().items():
        one = entry.load()
        assert one.name == name
        assert entry.help == one.help.partition("\n\n")[0].replace("\n", " ")
