"""What can be read of tasks, from any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fastapi_taskflow.bridge import Bridge
from fastapi_taskflow.drafts import Draft
from fastapi_taskflow.models import TaskRecord, TaskStatus
from fastapi_taskflow.plans import KIND
from fastapi_taskflow.records import record_of, run_status_of, status_of
from taskiq_flow.exceptions import TrackingQueryError
from taskiq_flow.model.records import RunFilter, RunSnapshot
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.paging import checked_limit

if TYPE_CHECKING:
    from fastapi_taskflow.encryption import Cipher

T = TypeVar("T")

LOG_LINES = 1000
"""Lines that a record shows; the whole log is read with `TaskStore.logs`."""


class TaskPage(NamedTuple):
    """Some tasks, newest first; ``cursor`` asks for the next ones."""

    tasks: tuple[TaskRecord, ...]
    cursor: str | None


@dataclass(slots=True)
class TaskStore:
    """The tasks of a manager, of all instances on one store.

    Methods that begin with ``a`` are for async code. The others wait for the answer, a millisecond
    or so, and serve sync code and tests; `get` also knows tasks that are still to be stored.
    """

    bridge: Bridge
    cipher: Cipher | None
    drafts: Callable[[str], Draft | None]

    # -- for sync code

    def get(self, task_id: str) -> TaskRecord | None:
        """The record of a task; None when there is none."""
        draft = self.drafts(task_id)
        if draft is not None:
            return draft.record()
        return self.bridge.ask(lambda store: self._load(store, task_id))

    def list(
        self, status: TaskStatus | str | None = None, limit: int = 100, **which: Any
    ) -> list[TaskRecord]:
        """The newest tasks; see `alist`."""
        page = self.bridge.ask(
            lambda store: self._page(store, status, None, limit, full=True, which=which)
        )
        return [*page.tasks]

    def logs(self, task_id: str) -> Sequence[str]:
        """All that a task said with `task_log`, as its record shows it."""
        record = self.bridge.ask(lambda store: self._load(store, task_id, lines=1_000_000))
        return [] if record is None else record.logs

    # -- for async code

    async def aget(self, task_id: str) -> TaskRecord | None:
        """The record of a task; None when there is none."""
        draft = self.drafts(task_id)
        if draft is not None:
            return draft.record()
        return await self._load(await self.bridge.opened(), task_id)

    async def alist(
        self,
        status: TaskStatus | str | None = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
        full: bool = True,
        **which: Any,
    ) -> TaskPage:
        """One page of tasks, newest first.

        ``which`` are further fields of `RunFilter`: ``name`` of the function, ``tag`` as
        ``"key=value"``, ``since`` and ``until`` (creation, seconds since 1970). Without ``full``
        the records have no arguments, results, logs and attempts, and cost one call for all.
        """
        store = await self.bridge.opened()
        return await self._page(store, status, cursor, limit, full=full, which=which)

    # -- how

    async def _load(
        self, store: RunStore, task_id: str, lines: int = LOG_LINES
    ) -> TaskRecord | None:
        run = await store.get(task_id)
        if run is None or run.kind != KIND:
            return None
        values = await store.values(task_id, [-1, run.total - 1])
        log, _ = await store.log(task_id, limit=lines)
        return record_of(run, values, log, self.cipher)

    async def _page(
        self,
        store: RunStore,
        status: TaskStatus | str | None,
        cursor: str | None,
        limit: int,
        *,
        full: bool,
        which: dict[str, Any],
    ) -> TaskPage:
        limit, wanted = checked_limit(limit), _status(status)
        runs = None if wanted is None else run_status_of(wanted)
        where = RunFilter(status=runs, kind=KIND, **which)
        found: list[RunSnapshot] = []
        while True:
            page = await store.list_runs(where, cursor=cursor, limit=limit - len(found))
            cursor = page.cursor
            found += [run for run in page.runs if wanted is None or status_of(run) is wanted]
            if cursor is None or len(found) >= limit:
                break
        if not full:
            return TaskPage(tuple(record_of(run) for run in found), cursor)
        loading = [self._load(store, run.run_id) for run in found]
        if store.never_waits:  # perhaps there is no event loop
            loaded = [await each for each in loading]
        else:
            loaded = await asyncio.gather(*loading)
        return TaskPage(tuple(record for record in loaded if record is not None), cursor)


def _status(given: TaskStatus | str | None) -> TaskStatus | None:
    try:
        return None if given is None else TaskStatus(given)
    except ValueError:
        known = ", ".join(status.value for status in TaskStatus)
        raise TrackingQueryError("status", given, f"is not one of {known}") from None
