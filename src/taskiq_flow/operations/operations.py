"""What an operator can do, each act written down with who did it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from taskiq import AsyncBroker

from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.children import cancel_run
from taskiq_flow.engine.deliver import deliver_event
from taskiq_flow.engine.forks import Changes, Draft, draft_fork, draft_retry
from taskiq_flow.exceptions import OperationError, TaskiqFlowError
from taskiq_flow.operations.audit import audit_entry
from taskiq_flow.operations.letters import letters_of
from taskiq_flow.operations.models import ActionResult, LetterQuery, ReplayResult
from taskiq_flow.operations.previews import Redact
from taskiq_flow.operations.reads import Reads
from taskiq_flow.operations.scope import LATER, Scope
from taskiq_flow.stores.base import RunStore

PURGED_TOGETHER = 500
REPLAYED_MOST = 10_000


class Operations(Reads):
    """Looks at the runs of a store and acts on them, from any process.

    Without a broker (only the URL of a store) everything works; what has to be sent is then found
    by the workers when they look for what is due. Each action is written to the audit with its
    ``actor``, also when it is refused.
    """

    @classmethod
    async def open(
        cls,
        store: str | RunStore | None = None,
        *,
        broker: AsyncBroker | None = None,
        namespace: str | None = None,
        redact: Redact | None = None,
        config: TaskiqFlowConfig | None = None,
    ) -> Self:
        """Connect to a store: by its URL, as it is, of a broker, or of the settings.

        ``redact`` is asked for every value that is shown, by its path; without it what is called
        like a secret is masked.

        Raises:
            OperationError: Neither a store nor a broker with one is known.
            StoreUrlError: The URL names no kind of store.
            StoreUnavailableError: It does not answer.
        """
        return cls(await Scope.open(store, broker, namespace, redact, config))

    async def close(self) -> None:
        """Let go of the store; one that was handed in stays open."""
        await self.scope.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def store(self) -> RunStore:
        return self.scope.store

    @property
    def namespace(self) -> str:
        return self.scope.store.options.namespace

    @property
    def can_send(self) -> bool:
        """Whether a broker is known, so that what is made ready here starts at once."""
        return self.scope.sender is not None

    # -- runs

    async def cancel(self, ref: str, *, actor: str, reason: str | None = None) -> ActionResult:
        """End a run as CANCELLED, with all that it has started; running code hears within 2 s.

        Raises:
            RunNotFoundError: There is no such run.
        """
        async with self.audited(actor, "cancel", ref, {"reason": reason}) as details:
            run = await self.scope.lookup.run(ref)
            details["run_id"] = run.run_id
            changed = await cancel_run(self.store, run.run_id, reason or f"cancelled by {actor}")
            if changed:
                await self.scope.cancelled(run)
            note = None if changed else "It had ended before."
            return ActionResult(changed, run.run_id, note)

    async def retry(self, ref: str, *, actor: str, from_start: bool = False) -> ActionResult:
        """Run again what did not complete, in a new run; with ``from_start`` everything anew.

        Asked twice for what did not complete, it answers with the same run.

        Raises:
            RunNotEndedError: The run still goes on.
            NothingToRunError: Every step completed.
            DuplicatePipelineError: Another run of its name is going.
        """
        action = "retry from start" if from_start else "retry"
        async with self.audited(actor, action, ref) as details:
            run = await self.scope.lookup.run(ref)
            publish = self.scope.publishes
            if from_start:
                changes = Changes(whole=True)
                draft = await draft_fork(
                    self.store, run.run_id, changes, key=run.key, publish=publish
                )
            else:
                draft = await draft_retry(self.store, run.run_id, publish=publish)
            return await self._create(draft, details)

    async def resume(self, ref: str, *, actor: str) -> ActionResult:
        """Go on from the failed steps, keeping what is done: `retry`, without ``from_start``."""
        return await self.retry(ref, actor=actor)

    async def fork(
        self,
        ref: str,
        *,
        actor: str,
        from_step: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        pipeline_id: str | None = None,
    ) -> ActionResult:
        """Make a new run of an ended one, which runs again from a step on, or with other values.

        Raises:
            RunNotEndedError: The run still goes on.
            UnknownStepError: It has no step of this name.
            UnknownInputError: It has no input of this name.
            NothingToRunError: Nothing was changed, and every step completed.
            UnserializableValueError: A changed value cannot be stored.
        """
        said = {
            "from_step": from_step,
            "inputs": sorted(inputs or ()),  # the values may be secret
            "outputs": sorted(outputs or ()),
        }
        async with self.audited(actor, "fork", ref, said) as details:
            run = await self.scope.lookup.run(ref)
            changes = Changes(from_step, inputs or {}, outputs or {})
            draft = await draft_fork(
                self.store, run.run_id, changes, key=pipeline_id, publish=self.scope.publishes
            )
            return await self._create(draft, details)

    async def send_event(
        self, ref: str, name: str, payload: Any = None, *, actor: str
    ) -> ActionResult:
        """Deliver an event to a run that waits for it, or will.

        Raises:
            RunEndedError: The run has ended.
            UnserializableValueError: The payload cannot be stored.
        """
        async with self.audited(actor, "send event", ref, {"event": name}) as details:
            if not name:
                raise OperationError("An event needs a name; give the one that a step waits for.")
            run = await self.scope.lookup.run(ref)
            details["run_id"] = run.run_id
            ready = await deliver_event(self.store, run.run_id, name, payload)
            return ActionResult(True, run.run_id, await self.scope.send(ready))

    async def delete(self, ref: str, *, actor: str) -> ActionResult:
        """Remove an ended run with all that belongs to it.

        Raises:
            OperationError: It still goes on.
        """
        async with self.audited(actor, "delete", ref) as details:
            run = await self.scope.lookup.run(ref)
            details["run_id"] = run.run_id
            if not run.status.is_final:
                raise OperationError(
                    f"Run {run.run_id} still goes on ({run.status}); cancel it first."
                )
            return ActionResult(await self.store.delete(run.run_id), run.run_id)

    # -- schedules

    async def pause_schedule(self, schedule_id: str, *, actor: str) -> ActionResult:
        """Start nothing by this schedule from now on.

        Raises:
            JobNotFoundError: There is no such schedule.
        """
        async with self.audited(actor, "pause schedule", schedule_id):
            await self.scope.jobs.pause_job(schedule_id)
            return ActionResult(True)

    async def resume_schedule(self, schedule_id: str, *, actor: str) -> ActionResult:
        """Go on with a schedule; what it left out meanwhile is not caught up.

        Raises:
            JobNotFoundError: There is no such schedule.
        """
        async with self.audited(actor, "resume schedule", schedule_id):
            await self.scope.jobs.resume_job(schedule_id)
            return ActionResult(True)

    async def run_schedule(self, schedule_id: str, *, actor: str) -> ActionResult:
        """Start a run of a schedule at once, paused or not.

        Raises:
            JobNotFoundError: There is no such schedule.
            DuplicatePipelineError: A run of it is going, and it lets none begin beside it.
        """
        async with self.audited(actor, "run schedule", schedule_id) as details:
            run_id = await self.scope.jobs.start_run(schedule_id)
            details["made"] = run_id
            return ActionResult(True, run_id, None if self.can_send else LATER)

    async def remove_schedule(self, schedule_id: str, *, actor: str) -> ActionResult:
        """Remove a schedule; runs that it has started go on.

        Raises:
            JobNotFoundError: There is no such schedule.
        """
        async with self.audited(actor, "remove schedule", schedule_id):
            await self.scope.jobs.remove_job(schedule_id)
            return ActionResult(True)

    # -- many at once

    async def replay_dead_letters(
        self, which: LetterQuery | Sequence[str], *, actor: str, most: int = 1000
    ) -> ReplayResult:
        """Retry the dead letters that are named, or that a query finds, newest first.

        Those that cannot be retried are left, each with the reason.

        Raises:
            OperationError: ``most`` is not between 1 and 10,000.
        """
        by_query = isinstance(which, LetterQuery)
        target = "by query" if by_query else f"{len(which)} named"
        async with self.audited(actor, "replay dead letters", target) as details:
            if not 1 <= most <= REPLAYED_MOST:
                raise OperationError(f"most={most} must be between 1 and {REPLAYED_MOST:,}.")
            if by_query:
                # Read before anything is retried: what was retried leaves the list.
                found = letters_of(self.scope, which)
                refs = [letter.run_id async for letter in _at_most(found, most)]
            else:
                refs = list(dict.fromkeys(which))[:most]
            made: dict[str, str] = {}
            left: dict[str, str] = {}
            for ref in refs:
                try:
                    run = await self.scope.lookup.run(ref)
                    draft = await draft_retry(self.store, run.run_id, publish=self.scope.publishes)
                    made[ref] = (await self._create(draft, {})).run_id or ""
                except TaskiqFlowError as error:
                    left[ref] = str(error)
            details |= {"made": len(made), "left": len(left)}
            return ReplayResult(made, left, is_all=len(refs) < most)

    async def purge(self, *, before: datetime, actor: str) -> int:
        """Remove all runs that ended before a time; returns how many.

        Raises:
            OperationError: The time has no zone.
        """
        async with self.audited(actor, "purge", f"ended before {before.isoformat()}") as details:
            if before.tzinfo is None:
                raise OperationError(f"before={before} has no time zone; use an aware time.")
            removed = 0
            while True:
                count = await self.store.purge(before=before.timestamp(), limit=PURGED_TOGETHER)
                removed += count
                if count < PURGED_TOGETHER:
                    details["removed"] = removed
                    return removed

    # -- the audit

    async def record(
        self,
        actor: str,
        action: str,
        target: str,
        *,
        ok: bool = True,
        details: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """Write something to the audit that was done elsewhere, such as a login."""
        entry = audit_entry(actor, action, target, ok=ok, details=details, error=error)
        await self.scope.audit.add(entry)

    @asynccontextmanager
    async def audited(
        self, actor: str, action: str, target: str, details: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """Write an action down when it is over; the dict may be filled meanwhile."""
        facts = {name: value for name, value in (details or {}).items() if value}
        try:
            yield facts
        except Exception as error:
            # Whatever it was, it was tried; the caller hears of it all the same.
            await self.record(actor, action, target, ok=False, details=facts, error=str(error))
            raise
        await self.record(actor, action, target, details=facts)

    async def _create(self, draft: Draft, details: dict[str, Any]) -> ActionResult:
        ready = await self.store.create(draft.new, draft.items)
        details["made"] = draft.new.run_id
        return ActionResult(True, draft.new.run_id, await self.scope.send(ready))


async def _at_most(found: AsyncIterator[Any], most: int) -> AsyncIterator[Any]:
    count = 0
    async for each in found:
        yield each
        count += 1
        if count >= most:
            return
