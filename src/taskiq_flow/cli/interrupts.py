"""Hears Ctrl-C and SIGTERM while a run goes on, and asks what should become of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from types import FrameType

from taskiq_flow.cli.exits import Exit
from taskiq_flow.cli.output import Output


class Choice(StrEnum):
    """What is to become of a run whose watcher was interrupted."""

    KEEP = "k"  # stop watching (and running it here), the run stays
    CANCEL = "c"
    GO_ON = "g"


class Interrupts:
    """Signals of this process, one after the other; asyncio would end the whole program."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[signal.Signals] = asyncio.Queue()

    async def next(self) -> signal.Signals:
        """Wait for one."""
        return await self._heard.get()

    @contextmanager
    def heard(self) -> Generator[None]:
        """Hear them in the block. After it one more Ctrl-C ends the process at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._heard.put_nowait, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            # What still runs in threads may take long, and the loop waits for it.
            signal.signal(signal.SIGINT, _end_now)

    async def ask(self, output: Output, question: str) -> Choice:
        """Ask which it should be; keeping it is the answer of a second Ctrl-C, and of no answer."""
        if not (sys.stdin.isatty() and output.err.is_terminal):
            return Choice.KEEP
        output.note(question, style="bold")
        output.err.print("  [k] keep it and stop here   [c] cancel it   [g] go on   (k) ", end="")
        answer = asyncio.ensure_future(_typed_line())
        again = asyncio.ensure_future(self.next())
        done, _ = await asyncio.wait({answer, again}, return_when=asyncio.FIRST_COMPLETED)
        for each in (answer, again):
            each.cancel()
        if answer not in done:
            output.err.print()
            return Choice.KEEP
        letter = answer.result().strip().lower()[:1]
        return Choice(letter) if letter in set(Choice) else Choice.KEEP


async def _typed_line() -> str:
    """A line from the terminal, read by the loop: a thread that reads could not be stopped."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        if not line.done():
            line.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin.fileno(), read)
    try:
        return await line
    finally:
        loop.remove_reader(sys.stdin.fileno())


def _end_now(number: int, frame: FrameType | None) -> None:
    del number, frame
    os._exit(Exit.INTERRUPTED)
