"""What is measured: shapes of work, stores, sizes, and the cells that they make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


class Shape(StrEnum):
    """A kind of work; the first four are compared with plain Taskiq."""

    CHAIN = "chain"
    MANY = "many"
    DIAMOND = "diamond"
    MAP = "map"
    WIDE_MAP = "wide-map"  # a map that nothing follows: its size is all that changes
    LONG_CHAIN = "long-chain"  # timed step by step
    LISTING = "listing"  # pages and counts of many ended runs
    PAGES = "pages"  # the dashboard and its API over as many
    TASKS = "tasks"  # durable background tasks of one process
    REQUESTS = "requests"  # answers of a server that add a task, and that do not


LOOKED_AT = (Shape.LISTING, Shape.PAGES)
"""What is asked for is stored beforehand, so they need no worker."""

BACKGROUND = (Shape.TASKS, Shape.REQUESTS)

COMPARED = (Shape.CHAIN, Shape.MANY, Shape.DIAMOND, Shape.MAP)


class Store(StrEnum):
    """Where runs live. Plain Taskiq has none: its cells say which broker is used."""

    MEMORY = "memory"
    SQLITE = "sqlite"
    REDIS = "redis"
    POSTGRES = "postgres"

    @property
    def reference(self) -> Store:
        """Whose plain cells a store is compared with: those on the same broker."""
        return Store.MEMORY if self.is_embedded else Store.REDIS

    @property
    def is_embedded(self) -> bool:
        """Whether steps run in the measuring process, on Taskiq's in-memory broker."""
        return self in (Store.MEMORY, Store.SQLITE)


class Side(StrEnum):
    """Who does the work."""

    PLAIN = "plain"
    FLOW = "flow"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each shape is done."""

    steps: int = 100
    runs: int = 1000
    run_steps: int = 3
    fan: int = 100
    diamonds: int = 20
    items: int = 10_000
    window: int = 100
    stored: int = 100_000
    tasks: int = 1000
    requests: int = 500


FULL = Sizes()
QUICK = Sizes(
    steps=20, runs=30, fan=10, diamonds=2, items=200, window=20, stored=300, tasks=100, requests=20
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement, made in a process of its own.

    ``count`` repeats the work after it was timed, and counts what is sent to the servers.
    ``in_place`` makes the in-memory broker await every task where it is sent.
    """

    shape: Shape
    store: Store
    side: Side = Side.FLOW
    sizes: Sizes = FULL
    count: bool = False
    in_place: bool = False
    namespace: str = ""
    redis_url: str = ""
    store_url: str = ""

    @property
    def title(self) -> str:
        size = {
            Shape.WIDE_MAP: self.sizes.items,
            Shape.LONG_CHAIN: self.sizes.steps,
            Shape.LISTING: self.sizes.stored,
            Shape.PAGES: self.sizes.stored,
            Shape.TASKS: self.sizes.tasks,
            Shape.REQUESTS: self.sizes.requests,
        }
        what = f"{self.shape} {size[self.shape]:,}" if self.shape in size else str(self.shape)
        return f"{what} {self.store} {self.side}{' in place' if self.in_place else ''}"

    @property
    def program(self) -> str:
        """The module that makes the measurement."""
        return f"benchmarks.{'background_tasks' if self.shape in BACKGROUND else 'cell'}"

    @property
    def counted_sizes(self) -> Sizes:
        """Sizes for counting: plain Taskiq sends the same for every step, so few are enough."""
        if self.side is Side.FLOW:
            return self.sizes
        few = self.sizes
        return replace(few, runs=few.runs // 10, diamonds=2, items=few.items // 10)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Cell:
        facts: dict[str, Any] = json.loads(text)
        return cls(
            **{
                **facts,
                "shape": Shape(facts["shape"]),
                "store": Store(facts["store"]),
                "side": Side(facts["side"]),
                "sizes": Sizes(**facts["sizes"]),
            }
        )


def round_of(
    shapes: Sequence[Shape], stores: Sequence[Store], sizes: Sizes, *, count: bool
) -> Iterator[Cell]:
    """The cells of one round: of each shape plain Taskiq and then every store on its broker."""
    for shape in shapes:
        for reference in dict.fromkeys(store.reference for store in stores):
            yield Cell(shape, reference, Side.PLAIN, sizes, count and not reference.is_embedded)
            for store in stores:
                if store.reference is reference:
                    counted = count and store is not Store.MEMORY
                    yield Cell(shape, store, Side.FLOW, sizes, counted)


def listing_cells(stores: Sequence[Store], *, quick: bool) -> Iterator[Cell]:
    """The cells that ask each store, and the dashboard over it, for pages of many ended runs."""
    for store in stores:
        yield Cell(Shape.LISTING, store, sizes=QUICK if quick else FULL)
    for store in stores:
        if store is not Store.MEMORY:
            yield Cell(Shape.PAGES, store, sizes=QUICK if quick else FULL)


def background_cells(stores: Sequence[Store], *, quick: bool) -> Iterator[Cell]:
    """The cells that show what a durable background task costs, and whether that grows."""
    if Store.SQLITE in stores:
        base = QUICK if quick else FULL
        for tasks in (50, 100) if quick else (1000, 10_000, 100_000):
            yield Cell(Shape.TASKS, Store.SQLITE, sizes=replace(base, tasks=tasks))
        yield Cell(Shape.REQUESTS, Store.SQLITE, sizes=base)


def growth_cells(stores: Sequence[Store], *, quick: bool) -> Iterator[Cell]:
    """The cells that show whether cost or memory grows with the size of a run."""
    base = QUICK if quick else FULL
    if Store.REDIS in stores:
        for items in (50, 100, 500) if quick else (1000, 10_000, 100_000):
            yield Cell(Shape.WIDE_MAP, Store.REDIS, sizes=replace(base, items=items))
    long = replace(base, steps=400 if quick else 10_000)
    for store in (Store.MEMORY, Store.REDIS):
        if store in stores:
            yield Cell(Shape.LONG_CHAIN, store, sizes=long)
    if Store.MEMORY in stores:
        short = replace(base, steps=50 if quick else 500)
        yield Cell(Shape.LONG_CHAIN, Store.MEMORY, sizes=short, in_place=True)
