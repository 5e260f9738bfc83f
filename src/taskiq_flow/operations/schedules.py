"""Describes schedules as operators see them."""

from __future__ import annotations

from taskiq_flow.operations.models import ScheduleView
from taskiq_flow.scheduling.job import ScheduledJob


def schedule_view(job: ScheduledJob) -> ScheduleView:
    """Describe a scheduled job."""
    note = (
        None if job.last_error is None else f"the last tick could not be started: {job.last_error}"
    )
    if note is None and job.waiting:
        note = f"{job.waiting} ticks wait for the run before them to end"
    return ScheduleView(
        schedule_id=job.job_id,
        pipeline=job.pipeline or job.label,
        trigger=job.trigger,
        is_paused=job.paused,
        next_at=job.next_tick,
        last_at=job.last_fired_at or job.last_tick,
        last_run_id=job.last_run_id,
        runs=job.fired,
        missed=job.missed,
        skipped=job.skipped,
        failed=job.failed,
        label=job.label,
        note=note,
        options={
            "overlap": job.options.overlap.value,
            "catch_up": job.options.catch_up.value,
            "jitter_seconds": job.options.jitter_seconds,
            "misfire_grace_seconds": job.options.misfire_grace_seconds,
            "max_instances": job.options.max_instances,
        },
    )
