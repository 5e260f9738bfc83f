"""How far a task, a step or a run is: reported in one line, read from any process."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias, cast

from pydantic import model_serializer
from taskiq import AsyncResultBackend, Context, TaskiqDepends

# Taskiq (0.13) has these under a module that its stubs leave out.
from taskiq.depends.progress_tracker import (  # pyright: ignore[reportMissingTypeStubs]
    TaskProgress as HostTaskProgress,
)
from taskiq.depends.progress_tracker import (  # pyright: ignore[reportMissingTypeStubs]
    TaskState,
)

from taskiq_flow.codec import encode
from taskiq_flow.exceptions import ProgressError

logger = logging.getLogger("taskiq_flow.progress")

Number: TypeAlias = int | float
Report: TypeAlias = Callable[[dict[str, Any]], None]
"""Takes what a step says of its progress; callable in any thread, never waits."""


class TaskProgress(HostTaskProgress[Any]):
    """How far a task is; can be set on every result backend of Taskiq.

    ``progress`` is between 0.0 and 1.0. ``status`` is free text, and the same as Taskiq's
    ``state``. Backends that serialise rebuild Taskiq's own class, so all fields travel in its
    ``meta``: `get_progress` and `from_taskiq` give this class back.

    Raises:
        ProgressError: ``progress`` is not between 0.0 and 1.0.
    """

    progress: float = 0.0
    current: Number | None = None
    total: Number | None = None

    def __init__(
        self,
        progress: float = 0.0,
        status: TaskState | str = "PENDING",
        current: Number | None = None,
        total: Number | None = None,
        meta: Any = None,
    ) -> None:
        is_number = isinstance(progress, (int, float))  # pyright: ignore[reportUnnecessaryIsInstance]
        if not is_number or not 0.0 <= progress <= 1.0:  # false for NaN as well
            raise ProgressError("progress", progress, "must be between 0.0 and 1.0")
        facts: dict[str, Any] = {"progress": progress, "current": current, "total": total}
        super().__init__(state=status, meta={} if meta is None else meta, **facts)

    @property
    def status(self) -> str:
        """What the task does, in words; the same as ``state``."""
        return str(self.state.value if isinstance(self.state, TaskState) else self.state)

    @status.setter
    def status(self, status: str) -> None:
        self.state = status

    def to_dict(self) -> dict[str, Any]:
        """The five fields by name."""
        return {"progress": self.progress, "status": self.status, **self._rest()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskProgress:
        """Make one of what `to_dict` returned; what is missing has its default."""
        return TaskProgress(**data)

    @classmethod
    def from_taskiq(cls, progress: HostTaskProgress[Any]) -> TaskProgress:
        """Read what a result backend returned, whoever set it and with which class."""
        if isinstance(progress, TaskProgress):
            return progress
        meta: Any = progress.meta
        if isinstance(meta, dict) and cast("dict[str, Any]", meta).keys() == _PACKED:
            return TaskProgress(status=progress.state, **cast("dict[str, Any]", meta))
        return TaskProgress(status=progress.state, meta=meta)

    @model_serializer
    def _as_taskiq(self) -> dict[str, Any]:
        return {"state": self.status, "meta": {"progress": self.progress, **self._rest()}}

    def _rest(self) -> dict[str, Any]:
        return {"current": self.current, "total": self.total, "meta": self.meta}


_PACKED = {"progress", "current", "total", "meta"}


class ProgressTracker:
    """A dependency of a task that reports its progress in one line.

    ``progress: ProgressTracker = TaskiqDepends()`` in a plain task writes to the broker's result
    backend, under the task's id; in a step of a pipeline to the record of its run.
    """

    def __init__(self, context: Context = TaskiqDepends()) -> None:  # noqa: B008 - Taskiq's way
        self.context = context
        # A plain task that a step starts in memory inherits the step's variables: hence the id.
        task_id, make = step_report.get()
        self._report = make() if make is not None and task_id == context.message.task_id else None
        self._latest = _Latest(context.broker.result_backend, context.message.task_id)

    def report(
        self, current: Number, total: Number | None = None, message: str | None = None
    ) -> None:
        """Say how far this task is; for sync and async code.

        Never waits: the newest value is written in the background, and one that cannot be written
        is logged and dropped.

        Raises:
            ProgressError: ``current`` or ``total`` is negative or no finite number.
        """
        fraction = fraction_done(current, total)
        if self._report is not None:
            self._report({"current": current, "total": total, "message": message})
            return
        status = TaskState.STARTED.value if message is None else message
        self._latest.put(TaskProgress(fraction, status, current, total))

    async def set_progress(self, state: TaskState | str, meta: Any = None) -> None:
        """Set a state and facts of your own, as Taskiq's own tracker does, and wait for it.

        Without ``meta`` the earlier one stays. In a step the state is the message of its progress.

        Raises:
            UnserializableValueError: ``meta`` cannot be stored with the run.
        """
        if self._report is not None:
            said = {"current": None, "total": None, "message": TaskProgress(status=state).status}
            if meta is not None:
                said["meta"] = meta
            encode(said, where="progress")  # the writer in the background could tell nobody
            self._report(said)
            return
        before = await self.get_progress() if meta is None else None
        kept = meta if before is None else before.meta
        message, backend = self.context.message, self.context.broker.result_backend
        await backend.set_progress(message.task_id, TaskProgress(status=state, meta=kept))

    async def get_progress(self) -> TaskProgress | None:
        """What this plain task has said last."""
        message, backend = self.context.message, self.context.broker.result_backend
        return await get_progress(backend, message.task_id)


async def get_progress(backend: AsyncResultBackend[Any], task_id: str) -> TaskProgress | None:
    """What a plain task has said of its progress; None when it has said nothing (or long ago).

    Works with every result backend of Taskiq. For a pipeline: ``await task.get_progress()``.
    """
    found = await backend.get_progress(task_id)
    return None if found is None else TaskProgress.from_taskiq(found)


class RunProgress(TaskProgress):
    """How far a run is as a whole; ``status`` is its status word.

    ``progress`` counts each step of the plan alike, a started one by its items or by what it says.
    ``meta`` is what steps have said, by step name. ``items_per_second`` counts items of maps since
    the run began, and ``seconds_left`` goes by the pace so far: both None until there is one.
    """

    steps_done: int = 0
    steps_total: int = 0
    items_done: int = 0
    items_total: int = 0
    items_per_second: float | None = None
    seconds_left: float | None = None

    def __init__(self, progress: float, status: str, steps: tuple[int, int], meta: Any) -> None:
        super().__init__(progress, status, *steps, meta)
        self.steps_done, self.steps_total = steps

    def to_dict(self) -> dict[str, Any]:
        """All fields by name."""
        own = RunProgress.model_fields.keys() - HostTaskProgress[Any].model_fields.keys()
        return {**super().to_dict(), **{name: getattr(self, name) for name in own}}


def fraction_done(current: Number, total: Number | None) -> float:
    """What part ``current`` is of ``total``, at most 1.0; 0.0 when nobody knows the total.

    Raises:
        ProgressError: One of them is negative or no finite number.
    """
    for name, value in (("current", current), ("total", total)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ProgressError(name, value, "must be a finite number that is not negative")
    if total is None:
        return 0.0
    return min(1.0, current / total) if total else 1.0


step_report: ContextVar[tuple[str, Callable[[], Report] | None]] = ContextVar(
    "step_report", default=("", None)
)
"""Set by the engine while a step runs: its task id, and what makes a taker of its progress."""


class _Latest:
    """Writes the newest progress of a task to a result backend, one write at a time."""

    def __init__(self, backend: AsyncResultBackend[Any], task_id: str) -> None:
        self._backend, self._task_id = backend, task_id
        self._loop = asyncio.get_running_loop()
        self._value: TaskProgress | None = None
        self._is_writing = False

    def put(self, progress: TaskProgress) -> None:
        """Callable from the event loop and from the task's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begin, progress)

    def _begin(self, progress: TaskProgress) -> None:
        self._value = progress
        if not self._is_writing:
            self._is_writing = True
            writing = asyncio.ensure_future(self._write())
            _writes.add(writing)
            writing.add_done_callback(_writes.discard)

    async def _write(self) -> None:
        while self._value is not None:
            value, self._value = self._value, None
            try:
                await self._backend.set_progress(self._task_id, value)
            except Exception:  # any backend, any error; progress must not fail its task
                logger.exception("Progress of task %s was not written", self._task_id)
        self._is_writing = False


_writes: set[asyncio.Task[None]] = set()
