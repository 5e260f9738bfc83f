"""What can be done to tasks that are stored: cancel, run again, put off to a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi_taskflow.arguments import sealed
from fastapi_taskflow.bridge import is_running
from fastapi_taskflow.checks import moment_of
from fastapi_taskflow.drafts import (
    Draft,
    TaskFacts,
    keyed_task_id,
    new_task_id,
    read_facts,
)
from fastapi_taskflow.exceptions import TaskGoneError, TaskStateError
from fastapi_taskflow.models import ScheduledOnce, TaskRecord, TaskStatus
from fastapi_taskflow.plans import KIND, Place
from fastapi_taskflow.records import status_of
from fastapi_taskflow.registry import UNNAMED, RegisteredTask
from fastapi_taskflow.store import TaskStore
from fastapi_taskflow.storing import latest_of_key
from taskiq_flow.codec import decode
from taskiq_flow.exceptions import DuplicatePipelineError, TrackingQueryError
from taskiq_flow.model.records import RunFilter, RunSnapshot, RunStatus
from taskiq_flow.scheduling.job import ONCE_TAG
from taskiq_flow.stores.base import RunStore

if TYPE_CHECKING:
    from fastapi_taskflow.core import TaskCore


class _Chance(NamedTuple):
    """A further go of a task, by its id."""

    task_id: str
    generation: int
    is_taken: bool = False


@dataclass(slots=True)
class TaskOperations:
    """Works on the tasks of all instances on one store."""

    core: TaskCore
    store: TaskStore

    async def cancel(self, task_id: str, reason: str) -> TaskRecord:
        store = await self.core.opened_store()
        run = await self._run(store, task_id)
        if run.status.is_final or not await store.cancel(task_id, reason):
            run = await self._run(store, task_id)  # it may have ended since it was looked at
            raise TaskStateError(task_id, status_of(run), "it has ended, and cannot be cancelled")
        engine, home = self.core.engine, self.core.loop
        if engine is not None and (home is None or is_running(home)):
            engine.stop_run(task_id)
        elif engine is not None and home is not None:
            home.call_soon_threadsafe(engine.stop_run, task_id)
        return await self._record(task_id)

    async def retry(self, task_id: str, *, replace: bool) -> TaskRecord:
        store = await self.core.opened_store()
        run = await self._run(store, task_id)
        status = status_of(run)
        if not status.can_be_retried:
            why = "it has succeeded" if status is TaskStatus.SUCCESS else "it has not ended"
            raise TaskStateError(task_id, status, f"{why}, so it is not run again")
        facts = read_facts(run.meta)
        task = self._task(facts)
        values = await store.values(task_id, [-1])
        payload = values.get(-1)
        if not isinstance(payload, bytes):
            raise TaskGoneError(task_id, "its arguments are not stored any more")
        facts = facts.without_time()
        again = _Chance(new_task_id(), 0)
        if facts.key is not None:
            again = await self._chance_of_key(store, facts.key, facts.generation)
            facts = facts.of_generation(again.generation)
        elif replace:
            again = await self._chance(store, task_id)
        if not again.is_taken:
            draft = Draft(task, again.task_id, payload, facts, Place(facts.queue, facts.priority))
            self.core.keep(draft)
            await self.core.commit([draft])
        if replace:
            await store.delete(task_id)
        return await self._record(again.task_id)

    async def _chance_of_key(self, store: RunStore, key: str, generation: int) -> _Chance:
        """The one after all that have failed; or the task that has not, which is there already."""
        latest = await latest_of_key(store, key)
        if latest is not None:
            known = read_facts(latest.meta).generation
            if not status_of(latest).can_be_retried:
                return _Chance(latest.run_id, known, is_taken=True)
            generation = max(generation, known)
        generation += 1
        return _Chance(keyed_task_id(store.options.namespace, key, generation), generation)

    async def _chance(self, store: RunStore, task_id: str) -> _Chance:
        """The first one that its queue did not refuse (it may have room now).

        One original makes one task, however many ask for it at once.
        """
        generation = 0
        while True:
            again = keyed_task_id(store.options.namespace, f"again {task_id}", generation)
            known = await store.get(again, steps=False)
            if known is None or status_of(known) is not TaskStatus.REJECTED:
                return _Chance(again, generation)
            generation += 1

    def _task(self, facts: TaskFacts) -> RegisteredTask:
        task = None if facts.func == UNNAMED else self.core.registry.find(facts.func)
        if task is None:
            why = "its function is no longer registered in this application"
            raise TaskGoneError(facts.name or facts.func, why)
        return task

    async def _run(self, store: RunStore, task_id: str) -> RunSnapshot:
        run = await store.get(task_id, steps=False)
        if run is None or run.kind != KIND:
            raise TaskGoneError(task_id, "there is no such task")
        return run

    async def _record(self, task_id: str) -> TaskRecord:
        record = await self.store.aget(task_id)
        if record is None:
            raise TaskGoneError(task_id, "there is no such task")
        return record

    # -- once, at a time

    async def schedule(self, draft: Draft, run_at: datetime) -> None:
        """Store a task that waits for its time, instead of the one that waits under its run key.

        Where there is another task of its idempotency key, nothing is stored.
        """
        fire_at = moment_of(run_at)
        draft.delay = max(0.0, fire_at - time.time())
        draft.facts = draft.facts._replace(fire_at=fire_at)
        run_key = draft.facts.run_key or ""
        store = await self.core.opened_store()
        while await self._takes_key(store, draft):
            try:
                self.core.keep(draft)
                await self.core.commit([draft])
            except DuplicatePipelineError as known:
                other = await store.get(known.run_id, steps=False)
                if other is not None and other.status is RunStatus.RUNNING:
                    # It has begun, so its key stands for nothing that waits any more.
                    draft.facts = draft.facts._replace(run_key=_next_key(draft.facts.run_key or ""))
                else:
                    await store.cancel(known.run_id, f"replaced by another of {run_key!r}")
            else:
                return

    async def _takes_key(self, store: RunStore, draft: Draft) -> bool:
        """Give a task the id that it has by its key, unless there is one already that counts."""
        facts = draft.facts
        latest = None if facts.key is None else await latest_of_key(store, facts.key)
        known = None if latest is None else read_facts(latest.meta)
        if latest is not None and known is not None and not status_of(latest).can_be_retried:
            waits = latest.status is RunStatus.PENDING and known.run_key is not None
            if not waits or _plain_key(known.run_key) != _plain_key(facts.run_key):
                return False
            why = f"replaced by another of {_plain_key(facts.run_key)!r}"
            await store.cancel(latest.run_id, why)
        if facts.key is not None:
            generation = 0 if known is None else known.generation + 1
            draft.facts = facts.of_generation(generation)
            draft.task_id = keyed_task_id(store.options.namespace, facts.key, generation)
        return True

    async def cancel_scheduled(self, run_key: str) -> bool:
        store = await self.core.opened_store()
        for run, facts in await self._waiting(store):
            if _plain_key(facts.run_key) == run_key:
                return await store.cancel(run.run_id, "cancelled by request")
        return False

    async def scheduled(self, before: datetime | None) -> list[ScheduledOnce]:
        store = await self.core.opened_store()
        found: list[ScheduledOnce] = []
        for run, facts in await self._waiting(store):
            values = await store.values(run.run_id, [-1])
            stored = values.get(-1)
            payload: Any = decode(stored) if isinstance(stored, bytes) else {}
            data: dict[str, Any] = {} if sealed(payload) else payload
            found.append(
                ScheduledOnce(
                    run_key=_plain_key(facts.run_key),
                    func_name=facts.name,
                    fire_at=datetime.fromtimestamp(facts.fire_at or run.created_at, UTC),
                    args=tuple(data.get("args", ())),
                    kwargs=dict(data.get("kwargs", {})),
                    idempotency_key=facts.key,
                    tags=dict(facts.tags),
                    priority=facts.priority,
                    queue=facts.queue,
                    encrypted_payload=sealed(payload),
                )
            )
        if before is not None and not isinstance(before, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TrackingQueryError("before", before, "is no datetime")
        until = None if before is None else before if before.tzinfo else before.replace(tzinfo=UTC)
        chosen = [each for each in found if until is None or each.fire_at < until]
        return sorted(chosen, key=lambda each: each.fire_at)

    async def _waiting(self, store: RunStore) -> list[tuple[RunSnapshot, TaskFacts]]:
        where = RunFilter(status=RunStatus.PENDING, kind=KIND, tag=ONCE_TAG)
        found: list[tuple[RunSnapshot, TaskFacts]] = []
        cursor: str | None = None
        while True:
            page = await store.list_runs(where, cursor=cursor, limit=500)
            found += [(run, read_facts(run.meta)) for run in page.runs]
            cursor = page.cursor
            if cursor is None:
                return found


_APART = "\x1f"
"""Between a run key and what tells apart those of tasks that have begun; no run key has it."""


def _next_key(run_key: str) -> str:
    return f"{_plain_key(run_key)}{_APART}{new_task_id()}"


def _plain_key(run_key: str | None) -> str:
    return (run_key or "").partition(_APART)[0]
