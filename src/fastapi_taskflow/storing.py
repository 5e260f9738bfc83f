"""How a task is stored: as a run of one step, or as the record of one that its queue refused."""

from __future__ import annotations

from fastapi_taskflow.drafts import Draft, key_name, keyed_task_id
from fastapi_taskflow.exceptions import QueueFullError
from fastapi_taskflow.plans import KIND, Plans
from fastapi_taskflow.queues import Lane
from fastapi_taskflow.records import REJECTED
from taskiq_flow.exceptions import BacklogFullError, DuplicatePipelineError
from taskiq_flow.model.records import Ready, RunSnapshot, StepKind
from taskiq_flow.plan import Plan, PlanStep, Source
from taskiq_flow.stores.base import RunStore


async def create_run(store: RunStore, plans: Plans, lane: Lane, draft: Draft) -> tuple[Ready, ...]:
    """Store the run of a task; one that is there already (its key was used elsewhere) is kept.

    Raises:
        QueueFullError: As many of its queue wait as may, in all instances.
        DuplicatePipelineError: Another task waits for its time under the same key.
        DuplicateTickError: Another instance has added this time of a schedule.
    """
    plan = plans.of(draft.task, draft.place, draft.delay)
    is_bound = not draft.place.eager and draft.delay is None
    most = lane.config.max_size if is_bound else None
    backlog = None if most is None else (f"queue:{lane.name}", most)
    try:
        return await store.create(draft.new_run(plan, store.options.namespace, backlog))
    except BacklogFullError as error:
        lane.rejected += 1
        await record_rejection(store, draft, lane)
        raise QueueFullError(lane.name, most or 0, draft.task_id) from error
    except DuplicatePipelineError:
        if draft.facts.run_key is not None:
            raise
        return ()


async def record_rejection(store: RunStore, draft: Draft, lane: Lane) -> None:
    """Leave a record of a task that its queue did not take."""
    # It waits for an event that nobody sends, and not for long: should this process die between
    # the two calls, the run fails by itself.
    never = PlanStep(
        name=draft.task.name,
        task=draft.task.identity,
        kind=StepKind.EVENT,
        event="never",
        delay_seconds=1.0,
        queue=KIND,
    )
    plan = Plan(KIND, (never,), Source(0), ("arguments",), name=draft.task.name)
    await store.create(draft.new_run(plan, store.options.namespace, None))
    why = f"{REJECTED}queue {lane.name!r} held {lane.config.max_size} waiting tasks"
    await store.cancel(draft.task_id, why)


async def latest_of_key(store: RunStore, key: str) -> RunSnapshot | None:
    """The latest task with an idempotency key."""
    found = await store.find(key_name(key))
    # One of `schedule_once` has its id by the key, and its name by the time.
    first = keyed_task_id(store.options.namespace, key, 0)
    return await store.get(found or first, steps=False)
