"""Which task of this process runs next: by queue, by priority, by who may run beside whom."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, TypeAlias

from fastapi_taskflow.exceptions import QueueConfigError
from fastapi_taskflow.models import Executor, QueueConfig
from taskiq_flow.engine.routing import labels_of
from taskiq_flow.model.names import check_name
from taskiq_flow.model.records import Ready

logger = logging.getLogger("fastapi_taskflow.queues")

DEFAULT = "default"
"""The queue of tasks that name none."""

BEGUN_AT_ONCE = 16
"""So many tasks are begun in one turn of the event loop, so that requests get theirs."""

STARTING_MOST = 128
"""So many tasks are on their way into their functions, or out of them, at once. Those that wait
inside are not counted: a burst of a hundred thousand tasks needs the memory of these."""

Begin: TypeAlias = Callable[[Ready], Coroutine[Any, Any, None]]


@dataclass(slots=True, eq=False)
class Waiting:
    """A task that is to run in this process; one whose place is reserved is not stored yet."""

    run_id: str
    ready: Ready | None
    queue: str
    priority: int
    executor: Executor
    since: float
    eager: bool = False
    context: Context | None = None


_Entry: TypeAlias = tuple[int, float, int, Waiting]
"""What waits, in the order in which it goes: highest priority, then oldest."""


def _no_heaps() -> dict[Executor, list[_Entry]]:
    return {"async": [], "thread": [], "process": []}


@dataclass(slots=True)
class Lane:
    """The tasks of a named queue in this process."""

    name: str
    config: QueueConfig
    heaps: dict[Executor, list[_Entry]] = field(default_factory=_no_heaps)
    running: int = 0
    finished: int = 0
    rejected: int = 0

    @property
    def waiting(self) -> int:
        return sum(map(len, self.heaps.values()))

    @property
    def has_room(self) -> bool:
        return self.config.concurrency is None or self.running < self.config.concurrency


@lru_cache(maxsize=1024)
def _place(route: str) -> tuple[str | None, int]:
    labels = labels_of(route)
    priority = labels.get("priority", 0)
    return labels.get("queue"), priority if isinstance(priority, int) else 0


class LocalQueues:
    """Takes what is ready to run and begins it in order of priority, then of age.

    A task begins when its queue has room and its executor has: ``room`` says how many of an
    executor may run at once, None for as many as there are. Bounds may change at any time; what
    runs goes on. Used by one event loop.
    """

    def __init__(
        self, configs: Mapping[str, QueueConfig], room: Mapping[Executor, int | None]
    ) -> None:
        for name, config in configs.items():
            check_config(name, config)
        self.lanes: dict[str, Lane] = {
            name: Lane(name, config) for name, config in {DEFAULT: QueueConfig(), **configs}.items()
        }
        self.room: dict[Executor, int | None] = dict(room)
        self.begin: Begin | None = None
        self._used: Counter[Executor] = Counter()
        self._known: dict[str, Waiting] = {}
        self._going: set[str] = set()
        self._inside: set[str] = set()
        self._reserved: set[str] = set()
        self._entering: dict[str, asyncio.Future[None]] = {}
        self._eager: deque[Waiting] = deque()
        self._number = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looks = False
        self._context: Context | None = None

    # -- what there is

    def lane_of(self, queue: str | None) -> Lane:
        """The lane of a queue; tasks of one that is not known wait in the default one."""
        lane = self.lanes.get(queue or DEFAULT)
        if lane is None:
            logger.warning("There is no queue %r; its tasks wait in the default queue.", queue)
            lane = self.lanes[DEFAULT]
        return lane

    def configure(self, name: str, config: QueueConfig) -> Lane:
        """Give a queue other bounds, from now on.

        Raises:
            QueueConfigError: There is no such queue, or a bound is not a whole number from 1 on.
        """
        lane = self.check(name, config)
        lane.config = config
        self._look_soon()
        return lane

    def check(self, name: str, config: QueueConfig) -> Lane:
        """The lane of a queue, if it may have these bounds.

        Raises:
            QueueConfigError: As `configure`.
        """
        lane = self.lanes.get(name)
        if lane is None:
            raise QueueConfigError(name, f"there is none; known are {', '.join(self.lanes)}")
        check_config(name, config)
        return lane

    def stats(self) -> list[dict[str, Any]]:
        """One dict for each queue: its bounds, and its tasks in this process."""
        return [
            {
                "name": lane.name,
                "concurrency": lane.config.concurrency,
                "max_size": lane.config.max_size,
                "pending": lane.waiting,
                "running": lane.running,
                "finished": lane.finished,
                "rejected": lane.rejected,
            }
            for lane in list(self.lanes.values())
        ]

    # -- taking

    def put(
        self,
        ready: Ready,
        executor: Executor,
        *,
        since: float,
        eager: bool = False,
        context: Context | None = None,
    ) -> None:
        """Take a task; one that waits or runs here already is not taken twice."""
        run_id = ready.address.run_id
        known = self._known.get(run_id)
        if known is not None:
            if run_id in self._reserved:  # stored by somebody else, with the same key
                known.ready, known.since = ready, since
            return
        queue, priority = _place(ready.route)
        lane = self.lane_of(queue)
        waiting = Waiting(run_id, ready, lane.name, priority, executor, since, eager, context)
        self._known[run_id] = waiting
        if eager:
            self._eager.append(waiting)
        else:
            entry = (-priority, since, next(self._number), waiting)
            heapq.heappush(lane.heaps[executor], entry)
        self._look_soon()

    def reserve(
        self,
        run_id: str,
        queue: str | None,
        executor: Executor,
        *,
        eager: bool = False,
        context: Context | None = None,
    ) -> bool:
        """Keep a place for a task that is about to be stored; False if it would have to wait.

        Whoever reserves says `run` or `give_up` afterwards.
        """
        lane = self.lane_of(queue)
        may_begin = self.begin is not None and not self._waits and not self._is_busy
        has_room = eager or (lane.has_room and self._has_room(executor))
        if not may_begin or not has_room or run_id in self._known:
            return False
        place = Waiting(run_id, None, lane.name, 0, executor, 0.0, eager, context)
        self._known[run_id] = place
        self._reserved.add(run_id)
        self._occupy(place)
        return True

    def run(self, run_id: str, work: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Run a task in the place that was reserved for it; done when its function is called."""
        self._reserved.discard(run_id)
        self._run(self._known[run_id], work)
        self._entering[run_id] = asyncio.get_running_loop().create_future()
        return self._entering[run_id]

    def give_up(self, run_id: str) -> None:
        """Give up a place that was reserved: its task is not stored, or waits like others."""
        self._reserved.discard(run_id)
        place = self._known[run_id]
        self._vacate(place)
        if place.ready is not None:
            self.put(
                place.ready,
                place.executor,
                since=place.since,
                eager=place.eager,
                context=place.context,
            )
        self._look_soon()

    def keeps(self, run_id: str) -> bool:
        """Whether a place is reserved for a task that was not cancelled meanwhile."""
        return run_id in self._reserved

    @property
    def is_storing(self) -> bool:
        """Whether a task is being stored that is to begin in its place."""
        return bool(self._reserved)

    def drop(self, run_id: str) -> None:
        """Forget a task that waits here, or is being stored: it was cancelled."""
        self._reserved.discard(run_id)
        waiting = self._known.get(run_id)
        if waiting is None or run_id in self._going:
            return
        del self._known[run_id]
        if waiting in self._eager:
            self._eager.remove(waiting)
            return
        heap = self.lanes[waiting.queue].heaps[waiting.executor]
        heap[:] = [entry for entry in heap if entry[3] is not waiting]
        heapq.heapify(heap)

    # -- beginning

    def start(self, begin: Begin) -> None:
        """Begin tasks from now on; what was taken before goes first."""
        self.begin = begin
        self._context = copy_context()  # not that of a task that says that it has begun
        # Nobody would look by themselves: a task that is known is not taken again.
        self._look_soon()

    def entered(self, run_id: str) -> None:
        """The function of a task is called now."""
        if run_id in self._going:
            self._inside.add(run_id)
            self._say_entered(run_id)
            self._look_soon()

    def _say_entered(self, run_id: str) -> None:
        entering = self._entering.pop(run_id, None)
        if entering is not None and not entering.done():
            entering.set_result(None)

    def left(self, run_id: str) -> None:
        """The function of a task has ended, and is to be recorded."""
        self._inside.discard(run_id)

    @property
    def _waits(self) -> bool:
        """Whether anything is here that has not begun."""
        return len(self._known) > len(self._going)

    @property
    def _is_busy(self) -> bool:
        """Whether so many are on their way into their functions or out of them as may be."""
        return len(self._going) - len(self._inside) >= STARTING_MOST

    def _look_soon(self) -> None:
        if self._waits and not self._looks and self.begin is not None:
            self._looks = True
            asyncio.get_running_loop().call_soon(self._look, context=self._context)

    def _look(self) -> None:
        self._looks = False
        for _ in range(BEGUN_AT_ONCE):
            if self.begin is None or not self._waits:
                return
            if self._is_busy:
                return
            chosen = self._choose()
            if chosen is None:
                return
            self._begin(chosen)
        self._look_soon()

    def _choose(self) -> Waiting | None:
        if self._eager:
            return self._eager.popleft()
        best: list[_Entry] = []
        for lane in self.lanes.values():
            if lane.has_room:
                for kind, heap in lane.heaps.items():
                    if heap and (not best or heap[0] < best[0]) and self._has_room(kind):
                        best = heap
        return heapq.heappop(best)[3] if best else None

    def _has_room(self, executor: Executor) -> bool:
        most = self.room[executor]
        return most is None or self._used[executor] < most

    def _begin(self, waiting: Waiting) -> None:
        assert self.begin is not None
        assert waiting.ready is not None, "what waits in a heap is stored"
        self._occupy(waiting)
        self._run(waiting, self.begin(waiting.ready))

    def _occupy(self, waiting: Waiting) -> None:
        self._going.add(waiting.run_id)
        if not waiting.eager:
            self.lanes[waiting.queue].running += 1
            self._used[waiting.executor] += 1

    def _vacate(self, waiting: Waiting) -> None:
        self._going.discard(waiting.run_id)
        self._inside.discard(waiting.run_id)  # its thread may have begun when nobody waited for it
        self._known.pop(waiting.run_id, None)
        if not waiting.eager:
            self.lanes[waiting.queue].running -= 1
            self._used[waiting.executor] -= 1

    def _run(self, waiting: Waiting, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=waiting.context)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, waiting))

    def _ended(self, waiting: Waiting, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._say_entered(waiting.run_id)  # or never will be
        self._vacate(waiting)
        self.lanes[waiting.queue].finished += 1
        if not task.cancelled() and task.exception() is not None:
            logger.error(
                "Running task %s failed outside of it", waiting.run_id, exc_info=task.exception()
            )
        self._look_soon()

    # -- the end

    def stop(self) -> Sequence[asyncio.Task[None]]:
        """Begin nothing more; what waits stays in the store. Returns what still goes on."""
        self.begin = None
        for lane in self.lanes.values():
            lane.heaps = _no_heaps()
        self._eager.clear()
        self._known = {run_id: w for run_id, w in self._known.items() if run_id in self._going}
        return list(self._tasks)


def lane_tag(name: str) -> str:
    """The tag of the runs of a named queue."""
    return f"queue:{name}"


def check_config(name: str, config: QueueConfig) -> None:
    """Refuse bounds that cannot work.

    Raises:
        QueueConfigError: One is neither None nor a whole number from 1 on.
    """
    if not isinstance(config, QueueConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise QueueConfigError(name, f"{config!r} must be a QueueConfig")
    check_name("Queue", name)
    bounds: Iterable[tuple[str, Any]] = (
        ("concurrency", config.concurrency),
        ("max_size", config.max_size),
    )
    for what, value in bounds:
        if value is not None and (type(value) is not int or value < 1):
            raise QueueConfigError(
                name, f"{what}={value!r} must be a whole number from 1 on, or None"
            )
