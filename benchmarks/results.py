"""What the cells of a run have measured, and the numbers that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, NamedTuple

from benchmarks.matrix import Cell, Shape, Side, Store


class Asked(NamedTuple):
    """How long questions of one kind took, and which took longest."""

    p50_ms: float
    max_ms: float
    slowest: str


@dataclass(frozen=True, slots=True)
class Measured:
    """One cell with what it found; ``error`` when it ended without a number."""

    cell: Cell
    round: int
    seconds: float = 0.0
    steps: int = 0
    ok: bool = False
    peak_mib: float = 0.0
    sent_per_step: float | None = None
    first_ms: float | None = None
    last_ms: float | None = None
    error: str | None = None
    asked: Mapping[str, Asked] = field(default_factory=dict[str, Asked])
    figures: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def ms_per_step(self) -> float:
        return self.seconds * 1000 / self.steps

    def to_json(self) -> dict[str, Any]:
        facts = asdict(self)
        del facts["cell"]
        cell = asdict(self.cell)
        for address in ("redis_url", "store_url", "namespace"):
            del cell[address]
        return {**cell, **facts}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A shape on a store against plain Taskiq, over all rounds."""

    shape: Shape
    store: Store
    flow: list[Measured]
    plain: list[Measured]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as plain Taskiq of the same round, sorted."""
        plain = {one.round: one.seconds for one in self.plain}
        return sorted(plain[one.round] / one.seconds for one in self.flow if one.round in plain)

    @property
    def ratio(self) -> float | None:
        return median(self.ratios) if self.ratios else None

    @property
    def sent_per_step(self) -> float | None:
        return sent_per_step(self.flow)


@dataclass(frozen=True, slots=True)
class Tasks:
    """So many background tasks, over all rounds."""

    count: int
    cells: list[Measured]

    @property
    def costs(self) -> list[float]:
        """Milliseconds a task of each round, sorted."""
        return sorted(one.ms_per_step for one in self.cells)

    def middle(self, figure: str) -> float:
        return median(one.figures[figure] for one in self.cells)

    def most(self, figure: str) -> float:
        return max(one.figures[figure] for one in self.cells)


@dataclass(frozen=True, slots=True)
class Results:
    """All cells of a run, in the order in which they were made."""

    cells: Sequence[Measured]

    @property
    def failures(self) -> list[Measured]:
        return [one for one in self.cells if one.error is not None or not one.ok]

    def of(self, shape: Shape, store: Store, side: Side = Side.FLOW) -> list[Measured]:
        wanted = (shape, store, side)
        return [
            one
            for one in self.cells
            if (one.cell.shape, one.cell.store, one.cell.side) == wanted and one.ok
        ]

    def comparison(self, shape: Shape, store: Store) -> Comparison:
        plain = self.of(shape, store.reference, Side.PLAIN)
        return Comparison(shape, store, self.of(shape, store), plain)

    def wide_maps(self) -> list[Measured]:
        """By size; the last of each that was measured."""
        found = {one.cell.sizes.items: one for one in self.of(Shape.WIDE_MAP, Store.REDIS)}
        return [found[items] for items in sorted(found)]

    def listings(self) -> list[Measured]:
        return [one for one in self.cells if one.cell.shape is Shape.LISTING and one.ok]

    def tasks(self) -> list[Tasks]:
        """Background tasks, by how many they were."""
        found: dict[int, list[Measured]] = {}
        for one in self.of(Shape.TASKS, Store.SQLITE):
            found.setdefault(one.cell.sizes.tasks, []).append(one)
        return [Tasks(count, found[count]) for count in sorted(found)]

    def requests(self) -> list[Measured]:
        return self.of(Shape.REQUESTS, Store.SQLITE)

    def pages(self) -> list[Measured]:
        return [one for one in self.cells if one.cell.shape is Shape.PAGES and one.ok]

    def long_chains(self) -> list[Measured]:
        return [one for one in self.cells if one.cell.shape is Shape.LONG_CHAIN and one.ok]


def sent_per_step(cells: Iterable[Measured]) -> float | None:
    """What was counted, in the one round that counts."""
    return next((one.sent_per_step for one in cells if one.sent_per_step is not None), None)


def ms_per_step(cells: Iterable[Measured]) -> float:
    return median(one.ms_per_step for one in cells)


def peak_mib(cells: Iterable[Measured]) -> float:
    return median(one.peak_mib for one in cells)
