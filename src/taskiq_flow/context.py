"""What a running step may ask: who it is, which run it belongs to, whether it should stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pydantic_core import core_schema

from taskiq_flow.exceptions import ContextUseError

if TYPE_CHECKING:
    from taskiq.abc.broker import AsyncBroker

logger = logging.getLogger("taskiq_flow.step")

WriteLine: TypeAlias = Callable[[int, str], None]
"""Takes the level and the text of a line; returns at once."""


class Ties(Protocol):
    """What ties a step to its run, in the process of its worker."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the worker."""
        ...

    def report(self, progress: dict[str, Any]) -> None:
        """Take the progress of the step, in any thread."""
        ...

    def write(self, level: int, message: str, attempt: int, item: int | None) -> None:
        """Take a line for the log of the run, in any thread."""
        ...

    async def read(self, name: str | None) -> dict[str, Any]:
        """What the run has so far, by output or step name: one value, or with None all of them."""
        ...


@dataclass(slots=True)
class Flag:
    """Says that something has happened; set in one thread, read in any."""

    is_set: bool = False


@dataclass(slots=True)
class PipelineContext:
    """A step's view of its run; a parameter annotated with this class receives one.

    ``pipeline_id`` is the name given to the run, else its id. ``step_index`` counts from 0 in
    plan order; ``item_index`` is set inside a map. ``attempt`` counts from 1. ``started_at`` is
    when the run began; at ``deadline`` the run's time or that of this step is up, whichever comes
    first. Both are aware UTC times. In a process pool ``broker`` is None, and results and progress
    cannot be reached.
    """

    pipeline_id: str
    run_id: str
    step_index: int
    step_name: str
    task_id: str
    execution_mode: str
    started_at: datetime
    attempt: int = 1
    item_index: int | None = None
    deadline: datetime | None = None
    broker: AsyncBroker | None = None
    _cancelled: Flag = field(default_factory=Flag, repr=False)
    _ties: Ties | None = field(default=None, repr=False)

    @property
    def cancelled(self) -> bool:
        """Whether the run has ended or the lease is lost: what this step returns is dropped.

        Becomes true within 2 s on any worker. Async steps get ``CancelledError`` as well.
        """
        return self._cancelled.is_set

    @property
    def logger(self) -> StepLogger:
        """A logger whose lines from INFO on are kept with the run as well.

        They carry the run, the step and the attempt as fields. Nothing waits for the store.
        """
        facts = {"run_id": self.run_id, "step": self.step_name, "attempt": self.attempt}
        return StepLogger(logger, facts, None if self._ties is None else self.keep_line)

    def keep_line(self, level: int, message: str) -> None:
        """Keep a line with the run, in any thread; the process's own log does not get it.

        In a process pool nothing is kept.
        """
        if self._ties is not None:
            self._ties.write(level, message, self.attempt, self.item_index)

    @property
    def results(self) -> StepResults:
        """What earlier steps of this run gave, by output or step name, for sync steps.

        Each look reads the store, so it is up to date. Async steps use `get_result`.
        """
        return StepResults(self)

    async def get_result(self, name: str) -> Any:
        """What an earlier step of this run gave, by its output or its own name.

        Models come back as dicts: only a parameter's annotation says what they were.

        Raises:
            ContextUseError: No step of this name has completed, or this is a process pool.
        """
        found = await self._results(name)
        if name not in found:
            raise ContextUseError(self.step_name, f"no step has given {name!r} so far")
        return found[name]

    async def get_results(self) -> dict[str, Any]:
        """All that the steps of this run have given so far, by output or step name."""
        return await self._results(None)

    def _results(self, name: str | None) -> Coroutine[Any, Any, dict[str, Any]]:
        if self._ties is None:
            why = "results cannot be read in a process pool; take them as parameters"
            raise ContextUseError(self.step_name, why)
        return self._ties.read(name)

    def read_in_thread(self, name: str | None) -> dict[str, Any]:
        """Read results from a sync step's thread, which waits for them."""
        loop = None if self._ties is None else self._ties.loop
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if loop is not None and here is loop:
            why = "an async step has to write `await context.get_result(name)`"
            raise ContextUseError(self.step_name, why)
        reading = self._results(name)
        if loop is None:
            return asyncio.run(reading)
        return asyncio.run_coroutine_threadsafe(reading, loop).result()

    def raise_if_cancelled(self) -> None:
        """Stop a sync step at a safe point.

        Raises:
            asyncio.CancelledError: The run has ended.
        """
        if self.cancelled:
            raise asyncio.CancelledError(f"run {self.run_id} has ended")

    def progress(
        self, current: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Say how far this step is; shown with the run, the newest value wins."""
        if self._ties is not None:
            self._ties.report({"current": current, "total": total, "message": message})

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot leave the process: broker, cancellation, progress, results."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in _OF_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.broker, self._cancelled, self._ties = None, Flag(), None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        # Taskiq parses parameters by annotation; without a schema it logs a traceback each time.
        return core_schema.is_instance_schema(cls)


_OF_PROCESS = {"broker", "_cancelled", "_ties"}


class StepLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs as usual, and hands lines from INFO on to the run's own log, however logging is set."""

    def __init__(
        self, inner: logging.Logger, facts: Mapping[str, object], write: WriteLine | None
    ) -> None:
        super().__init__(inner, facts)
        self._write = write

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if self._write is not None and level >= logging.INFO:
            self._write(level, _rendered(msg, args))
        # One frame more than without this class lies between the caller and the logger.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, msg, *args, **kwargs)


class StepResults(Mapping[str, Any]):
    """What the steps of a run have given so far; reads the store at each look."""

    def __init__(self, context: PipelineContext) -> None:
        self._context = context

    def __getitem__(self, name: str) -> Any:
        return self._context.read_in_thread(name)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._context.read_in_thread(None))

    def __len__(self) -> int:
        return len(self._context.read_in_thread(None))


def _rendered(msg: object, args: tuple[object, ...]) -> str:
    """The text of a line as `logging` would write it; a wrong format must not fail the step."""
    if not args:
        return str(msg)
    try:
        return logging.LogRecord("", 0, "", 0, msg, args, None).getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{msg} {args!r}"
