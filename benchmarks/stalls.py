"""How long an event loop was busy in one go, and what the machine did not let it have."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

TICK_SECONDS = 0.004
"""How often the event loop shows that it lives."""

WAITED = "/proc/thread-self/schedstat"
PROCESSORS = "/proc/stat"
_STEAL = 8
"""Where in a line of a processor stands for how long the host of a virtual machine took it."""

Denied: TypeAlias = Callable[[], tuple[float, ...]]


@dataclass(slots=True)
class Stalls:
    """How long the event loop was busy in one go, and how long the garbage collector was.

    ``longest`` is at the most a tick too much: nobody knows when in it the loop became busy. It
    leaves out the greatest of what `denied` counts, and not their sum: they may have been at the
    same time; and never what the loop's thread has worked. ``by_clock`` leaves nothing out.
    """

    longest: float = 0.0
    by_clock: float = 0.0
    collecting: float = 0.0
    _began: float = 0.0
    _ticking: asyncio.Task[None] | None = field(default=None)

    async def __aenter__(self) -> Stalls:
        gc.callbacks.append(self._hear)
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        gc.callbacks.remove(self._hear)
        if self._ticking is not None:
            self._ticking.cancel()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        with denied() as read:
            while True:
                before, worked, had = loop.time(), time.thread_time(), read()
                await asyncio.sleep(TICK_SECONDS)
                took, worked = loop.time() - before, time.thread_time() - worked
                self.take(took, worked, had, read())

    def take(
        self, took: float, worked: float, had: tuple[float, ...], has: tuple[float, ...]
    ) -> None:
        """Count a tick that took so long, with what `denied` said before and after it."""
        without = max([after - before for before, after in zip(had, has, strict=True)], default=0.0)
        self.by_clock = max(self.by_clock, took)
        self.longest = max(self.longest, worked, took - without)

    def _hear(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.collecting = max(self.collecting, time.perf_counter() - self._began)


@contextmanager
def denied(waited: str = WAITED, processors: str = PROCESSORS) -> Iterator[Denied]:
    """Seconds in which this thread was ready and had no processor, each since some time past.

    The first are those in which others of this machine had all of them. One for each processor
    follows: those in which the host of a virtual machine had it, and this thread stood still in
    the middle of its work or waited for another that did. What nobody counts is left out.
    """
    with ExitStack() as opened:
        readers: list[Denied] = []
        for path, read in ((waited, _waited), (processors, _stolen)):
            try:
                file = os.open(path, os.O_RDONLY)
            except OSError:
                continue
            opened.callback(os.close, file)
            readers.append(partial(read, file))
        yield lambda: tuple([seconds for read in readers for seconds in read()])


def _waited(schedstat: int) -> tuple[float, ...]:
    return (int(os.pread(schedstat, 80, 0).split()[1]) / 1e9,)


def _stolen(stat: int) -> tuple[float, ...]:
    each = [line.split() for line in os.pread(stat, 2**16, 0).splitlines()[1:]]
    ticks = os.sysconf("SC_CLK_TCK")
    return tuple([int(one[_STEAL]) / ticks for one in each if one[0].startswith(b"cpu")])


def spent(processors: str = PROCESSORS) -> tuple[int, ...]:
    """What all processors together have spent their time on, the host last; empty if unknown."""
    try:
        with open(processors, "rb") as stat:
            return tuple([int(word) for word in stat.readline().split()[1 : _STEAL + 1]])
    except OSError:
        return ()


def host_share(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    """Which part of the processors' time the host of this machine took, between two `spent`."""
    each = [now - then for then, now in zip(before, after, strict=True)]
    return f"{each[-1] / max(1, sum(each)):.1%} of the processors' time" if each else "not known"
