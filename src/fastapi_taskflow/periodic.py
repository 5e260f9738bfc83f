"""Tasks that are added by the clock: every so often, or by cron."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, TypeAlias

from fastapi_taskflow.exceptions import QueueFullError, TaskOptionError
from fastapi_taskflow.models import TaskConfig
from fastapi_taskflow.registry import identity_of, name_of
from taskiq_flow.exceptions import BacklogFullError, DuplicateTickError
from taskiq_flow.scheduling.triggers import (
    CronTrigger,
    IntervalTrigger,
    create_cron_trigger,
    create_interval_trigger,
)
from taskiq_flow.storage import BaseStorageAdapter

logger = logging.getLogger("fastapi_taskflow.periodic")

DEFAULT_HORIZON: Final = 300.0
"""Kept for code that imports it: one-off tasks wait in the store, however far off they are."""

DEFAULT_REFILL_INTERVAL: Final = 150.0
"""The same."""

LOOK_SECONDS: Final = 60.0
"""The scheduler looks at the clock at least this often: it may be set anew."""

LATE_SECONDS: Final = 60.0
"""A time that nobody saw coming by longer than this (the process slept) is passed over."""

STARTUP_SECONDS: Final = 10
"""Instances that start within so long of each other run an entry's ``run_on_startup`` once."""


@dataclass(slots=True)
class ScheduledEntry:
    """A function with its times; made by ``@task_manager.schedule(…)``.

    ``next_run`` is the next time in UTC, once the scheduler has started.
    """

    func: Callable[..., Any]
    config: TaskConfig
    every: float | None = None
    cron: str | None = None
    run_on_startup: bool = False
    timezone: str = "UTC"
    next_run: datetime | None = None
    trigger: CronTrigger | IntervalTrigger = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Read the times, so that wrong ones are refused where they are written.

        Raises:
            TaskOptionError: Not exactly one of ``every`` and ``cron`` was given.
            ScheduleError: One of them makes no times, or there is no such time zone.
            MissingExtraError: ``cron`` needs the extra ``scheduler``.
        """
        if self.every is not None and self.cron is None:
            self.trigger = create_interval_trigger(self.every)
        elif self.cron is not None and self.every is None:
            self.trigger = create_cron_trigger(self.cron, self.timezone)
        else:
            given = (self.every, self.cron)
            rule = "give one of them, not both and not none"
            raise TaskOptionError(name_of(self.func), "(every, cron)", given, rule)

    @property
    def name(self) -> str:
        """What lists show."""
        return self.config.name or name_of(self.func)

    @property
    def identity(self) -> str:
        """What the entry is called in the store: the function, and its times."""
        module = getattr(self.func, "__module__", "")
        return f"{identity_of(self.func) or f'{module}:{self.name}'} {self.trigger}"

    @property
    def recurring(self) -> bool:
        """Whether it has a further time after each; always, see `TaskManager.schedule_once`."""
        return True

    def compute_next(self, now: datetime | None = None) -> datetime:
        """The first time after now, or after the time given; an interval begins there."""
        after = (now or datetime.now(UTC)).timestamp()
        return datetime.fromtimestamp(next(self.trigger.ticks(after, after)), UTC)


Fire: TypeAlias = Callable[[ScheduledEntry, str], Awaitable[object]]
"""Adds a task. The text names this one time of the entry: of a time there is one task, whichever
instances add it, and `DuplicateTickError` is raised to the others."""


class PeriodicScheduler:
    """Fires entries at their times, each time once among all instances on one store.

    Nothing that happens when one is fired ends it: what goes wrong is logged, and the next time
    comes. There is no catching up: times that passed while no instance ran are left out.
    """

    def __init__(self, fire: Fire, storage: BaseStorageAdapter) -> None:
        self._fire, self._storage = fire, storage
        self._entries: list[ScheduledEntry] = []
        self._working: dict[int, asyncio.Task[None]] = {}
        self._is_running = False

    @property
    def entries(self) -> tuple[ScheduledEntry, ...]:
        return tuple(self._entries)

    def add(self, entry: ScheduledEntry) -> None:
        """Take an entry; while the scheduler runs it counts from now on."""
        self._entries.append(entry)
        if self._is_running:
            self._begin(entry)

    async def start(self) -> None:
        """Begin to fire, in this event loop."""
        self._is_running = True
        for entry in self._entries:
            self._begin(entry)

    async def stop(self) -> None:
        """Fire no more; tasks that were added go on."""
        self._is_running = False
        working, self._working = list(self._working.values()), {}
        for task in working:
            task.cancel()
        if working:
            await asyncio.wait(working)

    def _begin(self, entry: ScheduledEntry) -> None:
        if id(entry) not in self._working:
            self._working[id(entry)] = asyncio.create_task(self._serve(entry))

    async def _serve(self, entry: ScheduledEntry) -> None:
        began = time.time()
        anchor = await self._anchor(entry, began)
        if entry.run_on_startup and await self._is_first_start(entry):
            await self._try(entry, f"{entry.identity} startup {began:.6f}")
        after = began
        while True:
            number, at = next(_numbered(entry, anchor, after))
            entry.next_run = datetime.fromtimestamp(at, UTC)
            late = await _wait_until(at)
            after = at
            if late > LATE_SECONDS:
                after += late
                logger.warning("%s was not added at %s: too late.", entry.name, entry.next_run)
            else:
                await self._try(entry, f"{entry.identity} {number}")

    async def _try(self, entry: ScheduledEntry, tick: str) -> None:
        try:
            await self._fire(entry, tick)
        except DuplicateTickError:
            logger.debug("Another instance has added %s.", entry.name)
        except (QueueFullError, BacklogFullError) as error:
            logger.warning("%s was left out this time: %s", entry.name, error)
        except Exception:  # whatever it is, the next time comes
            logger.exception("%s could not be added.", entry.name)

    async def _anchor(self, entry: ScheduledEntry, now: float) -> float:
        """When the entry was first known here: its intervals count from then, over restarts."""
        if isinstance(entry.trigger, CronTrigger):
            return now
        key = f"since {entry.identity}"
        try:
            await self._storage.add(key, round(now, 3))
            return float(await self._storage.get(key) or now)
        except Exception:  # any storage; without it the intervals count from this start
            logger.exception("The beginning of %s is not known.", entry.name)
            return now

    async def _is_first_start(self, entry: ScheduledEntry) -> bool:
        try:
            return await self._storage.add(
                f"start {entry.identity}", True, ttl_seconds=STARTUP_SECONDS
            )
        except Exception:
            logger.exception("Whether %s was added at this start is not known.", entry.name)
            return True


def _numbered(entry: ScheduledEntry, anchor: float, after: float) -> Iterator[tuple[int, float]]:
    """The times after a time, each with a number that it has in every process."""
    match entry.trigger:
        case CronTrigger() as trigger:
            for at in trigger.ticks(after, anchor):
                yield round(at), at
        case IntervalTrigger(seconds=seconds):
            for number in count(max(1, int((after - anchor) // seconds))):
                at = anchor + number * seconds
                if at > after:
                    yield number, at


async def _wait_until(at: float) -> float:
    """Wait for a time of the clock; returns by how many seconds it is late then."""
    while True:
        left = at - time.time()
        if left <= 0:
            return -left
        await asyncio.sleep(min(left, LOOK_SECONDS))
