"""Where commands write: tables and words for people, one JSON value for programs."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import Enum
from typing import Any, cast

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from taskiq_flow.cli.exits import Exit
from taskiq_flow.display import one_line, plain_lines, printable

PIPE_WIDTH = 160
"""Tables that go into a pipe or a file are as wide as this at most, whatever the terminal is."""


class Output:
    """Standard output for what was asked for, standard error for everything else.

    No text is read as markup, and controls in it are escaped: it may come from a run.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        is_said = sys.stdout.isatty() or "COLUMNS" in os.environ
        width = None if is_said else PIPE_WIDTH
        self.out = Console(markup=False, highlight=False, emoji=False, width=width)
        self.err = Console(stderr=True, markup=False, highlight=False, emoji=False)

    def json(self, value: Any) -> None:
        """Write one JSON value; nothing but ASCII, so that no terminal is moved by it."""
        sys.stdout.write(json.dumps(to_json(value), indent=2) + "\n")
        sys.stdout.flush()

    def json_line(self, value: Any) -> None:
        """Write a value as one line, as streams do."""
        sys.stdout.write(json.dumps(to_json(value), separators=(",", ":")) + "\n")
        sys.stdout.flush()

    def show(self, *parts: RenderableType) -> None:
        """Write something for people; text in it is harmless already."""
        for part in parts:
            self.out.print(part, soft_wrap=isinstance(part, str | Text))

    def line(self, text: object, style: str = "") -> None:
        """Write a line whose text may be anything."""
        self.out.print(Text(one_line(text, 4000), style=style), soft_wrap=True)

    def lines(self, text: str, *, indent: str = "", style: str = "") -> None:
        """Write a text of several lines that may be anything."""
        for line in plain_lines(text):
            self.out.print(Text(f"{indent}{line}", style=style), soft_wrap=True)

    def text(self, text: str) -> None:
        """Write a text as it is, whole, but for what would move a terminal."""
        for line in text.splitlines():
            self.out.print(Text(printable(line)), soft_wrap=True)

    def note(self, text: object, style: str = "bright_black") -> None:
        """Say something beside the output."""
        self.err.print(Text(one_line(text, 4000), style=style), soft_wrap=True)

    def error(self, message: object, *, kind: str, code: Exit) -> None:
        """Say in one sentence what went wrong; with ``--json`` also as a value."""
        line = Text.assemble(("error: ", "bold red"), one_line(message, 4000))
        self.err.print(line, soft_wrap=True)
        if self.as_json:
            said = {"error": {"type": kind, "message": str(message), "exit_code": int(code)}}
            self.json(said)


class OneLineTable(Table):
    """A table each row of which is one line, however narrow the terminal is."""

    def add_line(self, *cells: Text) -> None:
        for text in cells:
            text.no_wrap, text.overflow = True, "ellipsis"
        self.add_row(*cells)


def table(*columns: str, right: Sequence[str] = (), long: Sequence[str] = ()) -> OneLineTable:
    """An empty table in the command's look: a quiet heading, no lines.

    Where it is wider than the terminal, columns of ``long`` give way first: an id of which a
    part is missing finds nothing.
    """
    made = OneLineTable(box=None, header_style="bright_black", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=name not in long,  # rich takes room from the others first
            overflow="ellipsis",
        )
    return made


def cell(value: object, style: str = "", most: int = 60) -> Text:
    """One harmless cell."""
    return Text("" if value is None else one_line(value, most), style=style)


def pretty(value: Any, *, width: int = 88, indent: str = "") -> str:
    """JSON for people: what fits stands in one line, also inside of what does not."""
    short = json.dumps(value, ensure_ascii=False)
    if len(short) + len(indent) <= width or not isinstance(value, dict | list):
        return short
    inner = f"{indent}  "
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        rows = [
            f"{inner}{json.dumps(name, ensure_ascii=False)}: "
            f"{pretty(each, width=width, indent=inner)}"
            for name, each in pairs
        ]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    rows = [
        f"{inner}{pretty(each, width=width, indent=inner)}" for each in cast("list[Any]", value)
    ]
    return "[\n" + ",\n".join(rows) + f"\n{indent}]"


def to_json(value: Any) -> Any:
    """Records, times and enumerations as JSON values; field names are those of the records."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | bool | int | float):
        return value if not isinstance(value, float) or value == value else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value).items()
        return {str(to_json(key)): to_json(each) for key, each in pairs}
    if isinstance(value, AbstractSet):
        return sorted(to_json(each) for each in cast("AbstractSet[Any]", value))
    if isinstance(value, list | tuple):
        return [to_json(each) for each in cast("Sequence[Any]", value)]
    return str(value)
