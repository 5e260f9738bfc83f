"""Lays out the charts of the overview: throughput, failures, and small lines of both; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskiq_flow.dashboard.words import absolute, age
from taskiq_flow.operations.models import Bucket

WIDTH, HEIGHT, LOW = 960.0, 132.0, 40.0


@dataclass(frozen=True, slots=True)
class Hit:
    """A column that says its numbers when it is pointed at."""

    x: float
    width: float
    said: str


@dataclass(frozen=True, slots=True)
class Throughput:
    """Paths of ended runs over time; ``top`` and ``failed_top`` are the ends of the two scales."""

    line: str
    area: str
    fails: tuple[tuple[float, float, float, float], ...]
    hits: tuple[Hit, ...]
    scale: tuple[int, ...]
    failed_top: int
    labels: tuple[str, ...]
    bucket: str
    completed: int
    failed: int


def throughput(buckets: Sequence[Bucket]) -> Throughput:
    """Draw completed runs as an area and failed ones as columns on a scale of their own."""
    top = round_up(max((bucket.completed for bucket in buckets), default=0))
    failed_top = max(2, max((bucket.failed for bucket in buckets), default=0))
    wide = WIDTH / max(1, len(buckets))
    points = [
        (wide * (index + 0.5), HEIGHT - HEIGHT * bucket.completed / top)
        for index, bucket in enumerate(buckets)
    ]
    line = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""
    area = f"{line} L{points[-1][0]:.1f} {HEIGHT:g} L{points[0][0]:.1f} {HEIGHT:g}Z" if line else ""
    fails = tuple(
        (
            round(wide * index + wide * 0.15, 1),
            round(LOW - (LOW - 2) * bucket.failed / failed_top, 1),
            round(wide * 0.7, 1),
            round((LOW - 2) * bucket.failed / failed_top, 1),
        )
        for index, bucket in enumerate(buckets)
        if bucket.failed
    )
    hits = tuple(
        Hit(
            round(wide * index, 1),
            round(wide, 1),
            f"{_label(bucket, buckets)}  {bucket.completed:,} completed, {bucket.failed:,} failed"
            + (f", {bucket.cancelled:,} cancelled" if bucket.cancelled else ""),
        )
        for index, bucket in enumerate(buckets)
    )
    return Throughput(
        line=line,
        area=area,
        fails=fails,
        hits=hits,
        scale=tuple(top * part // 3 for part in (3, 2, 1, 0)),
        failed_top=failed_top,
        labels=_labels(buckets),
        bucket=_width(buckets),
        completed=sum(bucket.completed for bucket in buckets),
        failed=sum(bucket.failed for bucket in buckets),
    )


def sparkline(values: Sequence[float]) -> tuple[str, str]:
    """The line and the area of a small chart, 100 wide and 32 high."""
    if len(values) < 2:
        return "", ""
    top = max(values) or 1
    points = [
        (100 * index / (len(values) - 1), 30 - 26 * value / top)
        for index, value in enumerate(values)
    ]
    line = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return line, f"{line} L100 32 L0 32Z"


def round_up(value: int) -> int:
    """The next number above that three equal parts of a scale read well with."""
    for size in (3, 6, 9, 15, 30, 60, 90, 150, 300, 600, 900):
        if value <= size:
            return size
    size = 3
    while size * 1000 < value:
        size *= 10
    return next(n * size for n in (300, 500, 600, 1000) if n * size >= value)


def _labels(buckets: Sequence[Bucket]) -> tuple[str, ...]:
    """Eight times at equal distances below the chart, without the last one, which is now."""
    count = min(8, len(buckets))
    return tuple(_label(buckets[index * len(buckets) // count], buckets) for index in range(count))


def _label(bucket: Bucket, buckets: Sequence[Bucket]) -> str:
    whole = (buckets[-1].stop - buckets[0].start).total_seconds()
    text = absolute(bucket.start)
    if whole > 2 * 86_400:
        return text[5:10] if not text[11:16].strip("0:") else text[5:16]
    return text[11:16] if whole >= 600 else text[11:19]


def _width(buckets: Sequence[Bucket]) -> str:
    if not buckets:
        return ""
    seconds = (buckets[0].stop - buckets[0].start).total_seconds()
    return age(seconds).replace(" m", " min")
