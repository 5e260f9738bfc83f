"""How a task is stored: as a run of one step, or as the record of one that its queue refused."""

from __future__ import annotations

from fastapi_taskflow.drafts import Draft, key_name, read_facts
from fastapi_taskflow.exceptions import QueueFullError, TaskNotStoredError
from fastapi_taskflow.models import TaskStatus
from fastapi_taskflow.plans import KIND, Plans
from fastapi_taskflow.queues import DEFAULT, Lane, lane_tag
from fastapi_taskflow.records import REJECTED, status_of
from taskiq_flow.exceptions import BacklogFullError, DuplicatePipelineError
from taskiq_flow.model.records import Grant, NewRun, Ready, RunFilter, RunSnapshot, StepKind
from taskiq_flow.plan import Plan, PlanStep, Source
from taskiq_flow.stores.base import RunStore


async def create_run(store: RunStore, plans: Plans, lane: Lane, draft: Draft) -> tuple[Ready, ...]:
    """Store the run of a task; one that is there already (its key was used elsewhere) is kept.

    Raises:
        QueueFullError: As many of its queue wait as may, in all instances.
        DuplicatePipelineError: Another task waits for its time under the same key.
        TaskNotStoredError: A full queue has refused another task of its key.
    """
    new = draft.new_run(plans.of(draft.task, draft.place, draft.delay), store.options.namespace)
    try:
        if draft.place.eager or draft.delay is not None or lane.config.max_size is None:
            ready = await store.create(_of_lane(lane, new))
        else:
            ready = await create_within(store, lane, new)
    except DuplicatePipelineError:
        if draft.facts.run_key is not None:
            raise
        ready = ()
    if not ready:
        await _check_taken(store, draft)
    return ready


async def _check_taken(store: RunStore, draft: Draft) -> None:
    """Refuse a task whose id is that of a refusal by now, which came after it was added.

    Raises:
        TaskNotStoredError: A full queue has refused another task of its key.
    """
    if draft.facts.key is None or draft.facts.run_key is not None:
        return  # no other has its id
    other = await store.get(draft.task_id, steps=False)
    if other is not None and status_of(other) is TaskStatus.REJECTED:
        raise TaskNotStoredError("a full queue has just refused another task with its key")


def may_start(lane: Lane, draft: Draft) -> bool:
    """Whether a task may be started with its creation: no time and no full queue can stop it."""
    is_for_now = draft.delay is None and draft.facts.run_key is None
    return is_for_now and (draft.place.eager or lane.config.max_size is None)


async def create_started_run(
    store: RunStore, plans: Plans, lane: Lane, draft: Draft, token: str
) -> Grant | tuple[Ready, ...]:
    """Store the run of a task that `may_start`, and start it, unless it is there already.

    Raises:
        TaskNotStoredError: A full queue has refused another task of its key.
    """
    new = draft.new_run(plans.of(draft.task, draft.place), store.options.namespace)
    try:
        answer = await store.create_started(_of_lane(lane, new), token)
    except DuplicatePipelineError:
        answer = ()
    if not answer:
        await _check_taken(store, draft)
    return answer


async def create_within(store: RunStore, lane: Lane, new: NewRun) -> tuple[Ready, ...]:
    """Store the run of a task, if its queue has room for it.

    Raises:
        QueueFullError: As many of its queue wait as may, in all instances.
    """
    new, most = _of_lane(lane, new), lane.config.max_size
    if most is None:
        return await store.create(new)
    try:
        return await store.create(new._replace(backlog=(f"queue:{lane.name}", most)))
    except BacklogFullError as error:
        lane.rejected += 1
        await _record_rejection(store, lane, new)
        raise QueueFullError(lane.name, most, new.run_id) from error


async def reject(store: RunStore, plans: Plans, lane: Lane, draft: Draft) -> None:
    """Leave a record of a task that its queue did not take."""
    new = draft.new_run(plans.of(draft.task, draft.place), store.options.namespace)
    await _record_rejection(store, lane, new)


async def _record_rejection(store: RunStore, lane: Lane, new: NewRun) -> None:
    """Leave a record, unless another task of its key was stored meanwhile: that one goes on."""
    # It waits for an event that nobody sends, and not for long: should this process die between
    # the two calls, the run fails by itself.
    never = PlanStep(
        name=new.name,
        task=new.steps[-1].task,
        kind=StepKind.EVENT,
        event="never",
        delay_seconds=1.0,
        queue=KIND,
    )
    plan = Plan(KIND, (never,), Source(0), ("arguments",), name=new.name)
    await store.create(new._replace(steps=plan.records, plan=plan.stored, queue=KIND))
    if await store.plan(new.run_id) == plan.stored:
        why = f"{REJECTED}queue {lane.name!r} held {lane.config.max_size} waiting tasks"
        await store.cancel(new.run_id, why)


def _of_lane(lane: Lane, new: NewRun) -> NewRun:
    """Let the tasks of a named queue be counted; all others are those of the default one."""
    return new if lane.name == DEFAULT else new._replace(tags=(*new.tags, lane_tag(lane.name)))


async def latest_of_key(store: RunStore, key: str) -> RunSnapshot | None:
    """The latest task with an idempotency key."""
    named = await store.find(key_name(key))
    latest = None if named is None else await store.get(named, steps=False)
    # Those of `schedule_once` are named by their time.
    tagged = (await store.list_runs(RunFilter(tag=key_name(key)), limit=1)).runs
    found = [*tagged] if latest is None else [latest, *tagged]
    return max(found, key=lambda run: read_facts(run.meta).generation, default=None)
