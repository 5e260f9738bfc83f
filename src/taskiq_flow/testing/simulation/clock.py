"""Virtual time: an event loop that never waits, and strands that can be frozen or ended."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MOST_AT_ONCE = 200_000
"""Callbacks in one instant after which time is taken to stand still for ever."""


class TimeStandsStillError(RuntimeError):
    """Callbacks call each other for ever without time passing."""

    def __init__(self) -> None:
        super().__init__(f"{MOST_AT_ONCE} callbacks ran and no time passed.")


class Strand:
    """What one thread of a simulated process runs: all callbacks that were begun from it.

    A frozen one does nothing until it thaws, then all that came in the meantime, in order: a
    process under SIGSTOP. An ended one never does anything again, not even a ``finally``: SIGKILL.
    """

    __slots__ = ("countdown", "ended", "frozen", "name", "on_countdown", "tasks", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = self.ended = False
        self.waiting: list[Callback] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.countdown = 0
        self.on_countdown: Callable[[], None] | None = None

    @property
    def going(self) -> list[asyncio.Task[Any]]:
        """The tasks that have not ended."""
        return [task for task in self.tasks if not task.done()]

    def holds_back(self, callback: Callback) -> bool:
        """Whether a callback must not run now."""
        if self.countdown:
            self.countdown -= 1
            if not self.countdown and self.on_countdown is not None:
                self.on_countdown()
        if self.ended or self.frozen:
            self.waiting.append(callback)  # an ended one's too, so that it can be disposed of
            return True
        return False


_strand: ContextVar[Strand | None] = ContextVar("_strand", default=None)


class Callback(asyncio.TimerHandle):
    """A callback with the strand that it belongs to."""

    __slots__ = ("strand",)

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        chosen = copy_context() if context is None else context
        super().__init__(when, callback, args, loop, chosen)
        self.strand = chosen.get(_strand)

    def run(self) -> None:
        self._run()


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing is ready.

    The same program does the same thing in the same order every time, if its random numbers do.
    It has no sockets, signals or threads. ``callbacks`` counts what it has run.
    """

    def __init__(self, *, start: float = 1000.0) -> None:
        super().__init__()
        self.unhandled: list[str] = []
        self.callbacks = 0
        self._now = start
        self._serial = 0
        self._soon: deque[Callback] = deque()
        self._agenda: list[tuple[float, int, Callback]] = []
        self._strands: list[Strand] = []
        self._loose: list[asyncio.Task[Any]] = []
        self._halted = False

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> Callback:
        handle = Callback(self._now, callback, args, self, context)
        self._soon.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> Callback:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> Callback:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> Callback:
        handle = Callback(when, callback, args, self, context)
        self._serial += 1
        heapq.heappush(self._agenda, (when, self._serial, handle))
        return handle

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        context: Context | None = options.get("context")
        strand = _strand.get() if context is None else context.get(_strand)
        # A reference to every task: one that is collected would run its ``finally`` anywhere.
        tasks = self._loose if strand is None else strand.tasks
        if len(tasks) > 100:
            tasks[:] = [known for known in tasks if not known.done()]
        tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody handled; a simulation looks at it in the end."""
        self.unhandled.append(f"{context.get('message')} {context.get('exception')!r}")

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self  # pyright: ignore[reportPrivateUsage]

    def run_until_complete(self, future: Any) -> Any:
        task = asyncio.ensure_future(future, loop=self)
        task.add_done_callback(self._halt_after)
        self.run()
        if not task.done():
            raise RuntimeError("Nothing is left to happen, and the future is not done.")
        return task.result()

    def _halt_after(self, _: object) -> None:
        self.halt()

    # -- turning the clock

    def halt(self) -> None:
        """Let `run` return after the callback that runs now."""
        self._halted = True

    def run(self, until: float = float("inf")) -> None:
        """Run until halted, until that moment, or until nothing is left to happen.

        Raises:
            TimeStandsStillError: Callbacks call each other for ever without time passing.
        """
        self._halted = False
        asyncio._set_running_loop(self)
        try:
            while not self._halted and self._advance(until):
                self._run_ready()
        finally:
            asyncio._set_running_loop(None)

    def _advance(self, until: float) -> bool:
        """Move to the next moment at which something happens; False when there is none."""
        if self._soon:
            return True
        agenda = self._agenda
        while agenda and agenda[0][2].cancelled():
            heapq.heappop(agenda)
        if not agenda or agenda[0][0] > until:
            self._now = max(self._now, until) if until != float("inf") else self._now
            return False
        self._now = max(self._now, agenda[0][0])
        while agenda and agenda[0][0] <= self._now:
            handle = heapq.heappop(agenda)[2]
            if not handle.cancelled():
                self._soon.append(handle)
        return True

    def _run_ready(self) -> None:
        soon = self._soon
        left = MOST_AT_ONCE
        while soon and not self._halted:
            handle = soon.popleft()
            if handle.cancelled():
                continue
            strand = handle.strand
            if strand is not None and strand.holds_back(handle):
                continue
            handle.run()
            self.callbacks += 1
            left -= 1
            if not left:
                raise TimeStandsStillError

    # -- strands

    def strand(self, name: str) -> Strand:
        strand = Strand(name)
        self._strands.append(strand)
        return strand

    def spawn(self, strand: Strand, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task as the first of what a strand runs."""
        context = Context()
        context.run(_strand.set, strand)
        return self.create_task(coro, context=context)

    def freeze(self, strand: Strand) -> None:
        strand.frozen = True

    def thaw(self, strand: Strand) -> None:
        strand.frozen = False
        self._soon.extend(strand.waiting)
        strand.waiting.clear()

    def dispose(self) -> None:
        """End every task, those of frozen and ended strands too, and close the loop.

        What their ``finally`` does then comes too late to be seen by anybody.
        """
        for strand in self._strands:
            strand.ended, strand.countdown = False, 0
            self.thaw(strand)
        self._agenda.clear()
        asyncio._set_running_loop(self)
        self._halted = False
        try:
            for _ in range(100):
                owners = [self._loose, *(strand.tasks for strand in self._strands)]
                pending = [task for tasks in owners for task in tasks if not task.done()]
                if not pending:
                    break
                for task in pending:
                    task.cancel()
                self._run_ready()
            for task in (task for strand in self._strands for task in strand.tasks):
                if task.done() and not task.cancelled():
                    task.exception()  # seen, so that nothing is said of it
        finally:
            asyncio._set_running_loop(None)
        self.close()


def current_strand() -> Strand | None:
    """The strand of the running callback; None for what belongs to no process."""
    return _strand.get()
