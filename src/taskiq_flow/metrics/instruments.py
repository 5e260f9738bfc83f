"""Counters, gauges and histograms whose number of series is bounded."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

MOST_SERIES = 500
"""So many combinations of label values one metric has; what is beyond them counts as ``other``."""

OTHER = "other"

LABEL_CHARACTERS = 200
"""A label value is cut after so many."""


class Kind(StrEnum):
    """How a metric is read; the words are those of the exposition format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Distribution(NamedTuple):
    """What a histogram saw: how many values per bucket (the last one has no bound), their sum."""

    counts: tuple[int, ...]
    total: float


@dataclass(eq=False)
class Metric:
    """One metric with its series; may be changed and read from any thread."""

    name: str
    help: str
    kind: Kind
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    _values: dict[tuple[str, ...], float] = field(default_factory=dict[tuple[str, ...], float])
    _counts: dict[tuple[str, ...], list[int]] = field(
        default_factory=dict[tuple[str, ...], list[int]]
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count something."""
        with self._lock:
            series = self._series(labels)
            self._values[series] = self._values.get(series, 0.0) + by

    def set(self, value: float, *labels: str) -> None:
        """Say how much there is now."""
        with self._lock:
            self._values[self._series(labels)] = value

    def observe(self, value: float, *labels: str) -> None:
        """Put a value into its bucket."""
        with self._lock:
            series = self._series(labels)
            counts = self._counts.setdefault(series, [0] * (len(self.bounds) + 1))
            counts[bisect_left(self.bounds, value)] += 1
            self._values[series] = self._values.get(series, 0.0) + value

    def value(self, *labels: str) -> float:
        """What a series stands at; of a histogram the sum of what it saw."""
        with self._lock:
            return self._values.get(labels, 0.0)

    def count(self, *labels: str) -> int:
        """How many values a series of a histogram saw."""
        with self._lock:
            return sum(self._counts.get(labels, ()))

    def series(self) -> Iterator[tuple[tuple[str, ...], float | Distribution]]:
        """What all series stand at, as of now."""
        with self._lock:
            values = dict(self._values)
            counts = {labels: tuple(found) for labels, found in self._counts.items()}
        for labels, value in values.items():
            if self.kind is Kind.HISTOGRAM:
                yield labels, Distribution(counts[labels], value)
            else:
                yield labels, value

    def _series(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        if labels in self._values:
            return labels
        # What cannot be written as UTF-8 would cost a scrape all of its metrics.
        labels = tuple(
            label[:LABEL_CHARACTERS].encode(errors="replace").decode() for label in labels
        )
        if labels not in self._values and len(self._values) >= MOST_SERIES:
            return (OTHER,) * len(labels)
        return labels
