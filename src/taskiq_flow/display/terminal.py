"""Redraws a run where it stands in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.text import Text

from taskiq_flow.display.bars import RunView
from taskiq_flow.display.pace import Pace
from taskiq_flow.display.picture import RunPicture
from taskiq_flow.display.text import one_line


class TerminalScreen:
    """Bars that are redrawn in place; lines that are said stand above them."""

    interval_seconds = 0.12

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pace = Pace()
        self._beat = 0
        # Not transient: how it ended stays on the screen. Logs of other code stand above it.
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def begin(self) -> None:
        self._live.start()
        # A process that is killed cannot give a hidden cursor back to the shell.
        self._console.show_cursor(True)

    def show(self, picture: RunPicture) -> None:
        self._beat += 1
        rates = self._pace.note(picture)
        self._live.update(RunView(picture, rates=rates, beat=self._beat), refresh=True)

    def say(self, line: str) -> None:
        self._console.print(Text(one_line(line, 2000), style="bright_black"))

    def end(self) -> None:
        self._live.stop()
