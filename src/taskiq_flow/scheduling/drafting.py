"""Jobs made of what users say, and what becomes of a job that is said anew."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taskiq import AsyncBroker

from taskiq_flow.compile import Startable
from taskiq_flow.exceptions import ForeignPipelineError
from taskiq_flow.pipeline import Pipeline
from taskiq_flow.pipeline.base import BasePipeline
from taskiq_flow.scheduling.job import Job, JobOptions, JobState
from taskiq_flow.scheduling.options import check_id
from taskiq_flow.scheduling.triggers import Trigger
from taskiq_flow.scheduling.work import Work


@dataclass(frozen=True, slots=True)
class Names:
    """What a job and its runs are called, as far as users say it."""

    job_id: str | None = None
    pipeline_id: str | None = None
    label: str | None = None


def as_pipeline(broker: AsyncBroker, given: Any) -> Startable:
    """A pipeline of a broker, also of one of its tasks.

    Raises:
        ForeignPipelineError: It belongs to another broker.
        NotATaskError: It is neither.
    """
    pipeline = given if isinstance(given, Startable) else Pipeline(broker, given)
    if getattr(pipeline, "broker", broker) is not broker:
        raise ForeignPipelineError("scheduler")
    return pipeline


def work_of(
    pipeline: Startable, args: Sequence[Any], kwargs: Mapping[str, Any] | None, most_items: int
) -> Work:
    """What a pipeline is with its arguments; see `Work.of`."""
    return Work.of(pipeline, args, kwargs or {}, most_items)


def draft_job(
    pipeline: Startable, work: Work, trigger: Trigger, options: JobOptions, names: Names, now: float
) -> Job:
    """Make a job. Without an id and a label its id follows from what is run, and when.

    Raises:
        ScheduleError: An id cannot be kept.
    """
    key = names.pipeline_id
    if key is None and isinstance(pipeline, BasePipeline):
        key = pipeline.given_id
    if key is not None:
        check_id("pipeline_id", key)
    facts = f"{work.digest} {trigger!r} {key}"
    derived = f"{work.name[:100]}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
    label = None if names.label is None else check_id("label", names.label)
    job_id = check_id("job_id", (label or derived) if names.job_id is None else names.job_id)
    return Job(
        job_id=job_id,
        label=label or job_id,
        pipeline=work.name,
        trigger=trigger,
        options=options,
        work=work.digest,
        created_at=now,
        state=JobState(decided_until=now),
        key=key,
    )


def merge(old: Job, new: Job) -> Job:
    """A job that is scheduled again: what differs is changed, its history and a pause stay.

    The same again is the old one, down to the last field.
    """
    same_work = old.work.partition("-")[0] == new.work.partition("-")[0]
    changed = replace(
        old,
        label=new.label,
        pipeline=new.pipeline,
        options=new.options,
        key=new.key,
        work=old.work if same_work else new.work,
    )
    return retime(changed, new.trigger, new.created_at)


def retime(job: Job, trigger: Trigger, now: float) -> Job:
    """Give a job other times, from now on; what waits to be run still is."""
    if trigger == job.trigger:
        return job
    since = max(job.state.decided_until, now)
    return replace(job.with_state(decided_until=since), trigger=trigger, created_at=now)
