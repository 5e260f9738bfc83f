"""Makes the plan of a task: one step on the engine, stored with each of its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastapi_taskflow.exceptions import TaskInterruptedError
from fastapi_taskflow.models import QueueConfig, TaskConfig
from fastapi_taskflow.registry import RegisteredTask
from taskiq_flow.engine.routing import route_of
from taskiq_flow.model.records import Limit, StepKind
from taskiq_flow.model.retry import RetryPolicy, qualified_name
from taskiq_flow.plan import Plan, PlanStep, Source

KIND = "background"
"""The kind of the runs of background tasks."""

LOST_MOST = 8
"""Processes that may die under a task that may be run again, before it counts as the cause."""

MOST_URGENT = 10_000
"""Priorities beyond this count as this, where a store orders those that wait for a queue."""

NO_CAP_SECONDS = 10 * 365 * 24 * 3600.0

_NEVER_RETRIED = (TaskInterruptedError,)


class Place(NamedTuple):
    """Where a task waits: its queue (None is the default one), and who is before it."""

    queue: str | None = None
    priority: int | None = None
    eager: bool = False

    @classmethod
    def of(
        cls,
        config: TaskConfig,
        queue: str | None = None,
        priority: int | None = None,
        eager: bool | None = False,
    ) -> Place:
        """What a call says, and what its task says where that is None."""
        return cls(
            config.queue if queue is None else queue,
            config.priority if priority is None else priority,
            config.eager if eager is None else eager,
        )


@dataclass(slots=True)
class Plans:
    """The plans of one manager; those of equal calls are one object.

    ``queue_of`` names the queue of the engine for routing labels. ``limits`` is asked on a broker,
    whose workers have no other way to keep a queue's bound.
    """

    queue_of: Callable[[Mapping[str, Any]], str]
    limits: Callable[[str | None], QueueConfig | None] | None = None
    _made: dict[tuple[Any, ...], Plan] = field(default_factory=dict[tuple[Any, ...], Plan])

    def of(self, task: RegisteredTask, place: Place, delay: float | None = None) -> Plan:
        """The plan of a call; with a delay its first step is a timer."""
        bound = None if self.limits is None else self.limits(place.queue)
        most = None if bound is None or place.eager else bound.concurrency
        if delay is not None or task.is_unnamed:
            return self._make(task, place, most, delay)
        key = (task, place, most)
        plan = self._made.get(key)
        if plan is None:
            plan = self._made[key] = self._make(task, place, most, None)
        return plan

    def _make(
        self, task: RegisteredTask, place: Place, most: int | None, delay: float | None
    ) -> Plan:
        labels = _labels(place)
        limits = () if most is None else (_limit(place, most),)
        queue = self.queue_of(labels)
        work = PlanStep(
            name=task.name,
            task=task.identity,
            args=(Source(-1),),
            after=() if delay is None else (0,),
            retry=retry_policy(task.config),
            queue=queue,
            route=route_of(labels),
            lost_most=LOST_MOST if task.config.requeue_on_interrupt else 1,
            limits=limits,
            context=("context",),
        )
        steps = (work,)
        if delay is not None:
            steps = (
                PlanStep(
                    name="delay", task="", kind=StepKind.TIMER, delay_seconds=delay, queue=queue
                ),
                work,
            )
        return Plan(KIND, steps, Source(len(steps) - 1), inputs=("arguments",), name=task.name)


def _limit(place: Place, most: int) -> Limit:
    """The bound of a queue over all workers, at which the most urgent is the next."""
    urgency = max(-MOST_URGENT, min(place.priority or 0, MOST_URGENT))
    return Limit(f"queue:{place.queue or 'default'}", most, priority=urgency)


def _labels(place: Place) -> dict[str, Any]:
    labels: dict[str, Any] = {}
    if place.queue is not None:
        labels["queue"] = place.queue
    if place.priority is not None:
        labels["priority"] = place.priority
    return labels


def retry_policy(config: TaskConfig) -> RetryPolicy:
    """How the engine retries a task with these options."""
    return RetryPolicy(
        max_attempts=1 + config.retries,
        delay=config.delay,
        backoff=config.backoff,
        max_delay=NO_CAP_SECONDS if config.max_delay is None else config.max_delay,
        jitter=config.jitter,
        retry_on=() if config.retry_on == (Exception,) else config.retry_on,
        no_retry_on=tuple(qualified_name(kind) for kind in (*config.giveup_on, *_NEVER_RETRIED)),
    )
