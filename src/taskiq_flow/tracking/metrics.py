"""Sums up what runs came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from taskiq_flow.model.records import RunStatus
from taskiq_flow.tracking.models import PipelineStatus, TrackingMetrics


def summarize(statuses: Iterable[PipelineStatus], failed_steps: Iterable[str]) -> TrackingMetrics:
    """Make the metrics of some runs, and of the steps at which those that failed did so."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    durations: list[float] = []
    for status in statuses:
        counts[status.status] += 1
        if status.is_finished():
            durations.append(status.duration_ms)
        if status.status == RunStatus.FAILED:
            reasons[status.error_type or _first_word(status.error)] += 1
    total = counts.total()
    steps = Counter(failed_steps).most_common(1)
    return TrackingMetrics(
        total_pipelines=total,
        completed=counts[RunStatus.COMPLETED],
        failed=counts[RunStatus.FAILED],
        cancelled=counts[RunStatus.CANCELLED],
        success_rate=counts[RunStatus.COMPLETED] / total if total else 0.0,
        avg_duration_ms=sum(durations) / len(durations) if durations else 0.0,
        p95_duration_ms=_p95(durations),
        failure_reasons=dict(reasons.most_common()),
        most_frequent_step=steps[0][0] if steps else None,
    )


def _p95(durations: list[float]) -> float:
    """The nearest rank: at least 95 of 100 took no longer."""
    if not durations:
        return 0.0
    rank = -(-95 * len(durations) // 100)
    return sorted(durations)[rank - 1]


def _first_word(error: str | None) -> str:
    return (error or "unknown").partition(":")[0]
