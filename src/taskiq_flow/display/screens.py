"""Chooses where a run is shown: a notebook, a terminal, or single lines."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Protocol

from taskiq_flow.display.notebook import NotebookScreen, notebook_shell
from taskiq_flow.display.picture import RunPicture
from taskiq_flow.display.plain import PlainScreen
from taskiq_flow.exceptions import MissingExtraError


class Screen(Protocol):
    """Where a run is shown; ``interval_seconds`` is how often a new picture is worth it."""

    interval_seconds: float

    def begin(self) -> None: ...
    def show(self, picture: RunPicture) -> None: ...
    def say(self, line: str) -> None: ...
    def end(self) -> None: ...


def make_screen(console: Any = None) -> Screen:
    """The screen for this process; standard error, unless a rich console is given.

    Raises:
        MissingExtraError: This is no notebook, and rich is not installed.
    """
    if console is None and notebook_shell() is not None:
        return NotebookScreen()
    try:
        if console is None:
            console = import_module("rich.console").Console(stderr=True)
        if console.is_terminal and not console.is_dumb_terminal:
            screen: Screen = import_module("taskiq_flow.display.terminal").TerminalScreen(console)
            return screen
    except ModuleNotFoundError as error:
        raise MissingExtraError("The progress display", "cli", "rich") from error
    return PlainScreen(console.file if console is not None else sys.stderr)
