"""What the project wants of its speed and memory, held against what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.matrix import Shape, Store
from benchmarks.results import Results, ms_per_step, peak_mib

RATIOS = {
    (Shape.CHAIN, Store.REDIS): 5.0,
    (Shape.MANY, Store.REDIS): 2.5,
    (Shape.DIAMOND, Store.REDIS): 2.5,
    (Shape.MAP, Store.REDIS): 4.0,
    (Shape.CHAIN, Store.MEMORY): 0.8,
    (Shape.MANY, Store.MEMORY): 0.8,
    (Shape.DIAMOND, Store.MEMORY): 0.8,
    (Shape.MAP, Store.MEMORY): 0.8,
}
"""How many times as fast as plain Taskiq on the same broker."""

ROUND_TRIPS = 1.2
MEMORY_GROWTH, TIME_GROWTH = 1.5, 1.3
"""Of a map 100 times as long, and of an item (or step) of a run 10 (or 100) times as long."""


PAGE_MS = 50.0
"""Of 50 of 100,000 ended runs, found by whatever there is to find them by."""

TASK_MS, STALL_MS, REQUEST_MS = 0.5, 50.0, 2.0
"""Of a durable background task with many in flight, of an event loop that runs them, and of the
difference that adding one makes to an answer."""

JUDGED_TASKS = 1000

SHOWN_MS, TABS_GROWTH = 100.0, 1.2
"""Of a page of the dashboard, or what the API says of the same, over 100,000 ended runs; and of the
time in which the application answers with ten of them open."""

JUDGED_STEPS = 1000
"""The ends of a shorter chain are over in milliseconds: what they cost is noise."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One wish, and whether it is fulfilled."""

    promise: str
    wanted: str
    found: str
    holds: bool


def judged(results: Results) -> list[Verdict]:
    """Judge what was measured; wishes about something else are left out."""
    kinds = (_ratios, _round_trips, _maps, _chains, _pages, _shown, _tasks, _requests)
    return [verdict for kind in kinds for verdict in kind(results)]


def _ratios(results: Results) -> Iterator[Verdict]:
    for (shape, store), least in RATIOS.items():
        ratio = results.comparison(shape, store).ratio
        if ratio is not None:
            what = f"{shape}, {store}: times as fast as plain Taskiq"
            yield Verdict(what, f"at least {least:g}", f"{ratio:.2f}", ratio >= least)


def _round_trips(results: Results) -> Iterator[Verdict]:
    sent = results.comparison(Shape.CHAIN, Store.REDIS).sent_per_step
    if sent is not None:
        what = "chain, redis: commands a step, those of the broker included"
        yield Verdict(what, f"at most {ROUND_TRIPS:g}", f"{sent:.2f}", sent <= ROUND_TRIPS)


def _maps(results: Results) -> Iterator[Verdict]:
    maps = results.wide_maps()
    if len(maps) < 3:
        return
    small, middle, large = maps[0], maps[-2], maps[-1]
    items = [f"{one.cell.sizes.items:,}" for one in (small, middle, large)]
    yield _growth(
        f"worker memory, map of {items[2]} items against {items[0]}",
        large.peak_mib / small.peak_mib,
        MEMORY_GROWTH,
    )
    yield _growth(
        f"time an item, map of {items[2]} against {items[1]}",
        large.ms_per_step / middle.ms_per_step,
        TIME_GROWTH,
    )


def _chains(results: Results) -> Iterator[Verdict]:
    for one in results.long_chains():
        if one.first_ms and one.last_ms and one.cell.sizes.steps >= JUDGED_STEPS:
            how = " in place" if one.cell.in_place else ""
            what = (
                f"time a step, end of a chain of {one.cell.sizes.steps:,} on {one.cell.store}{how}"
            )
            yield _growth(f"{what} against its start", one.last_ms / one.first_ms, TIME_GROWTH)


def _pages(results: Results) -> Iterator[Verdict]:
    for one in results.listings():
        wanted = f"less than {PAGE_MS:g} ms"
        for name, whose in (("tracking", "`list_pipelines`"), ("page", "the store")):
            found = one.asked[name]
            what = f"{one.cell.store}, a page of 50 of {one.cell.sizes.stored:,} runs, {whose}"
            shown = f"{found.p50_ms:.1f} ms"
            yield Verdict(f"{what}, median", wanted, shown, found.p50_ms < PAGE_MS)
            slowest = float(found.slowest.rpartition(": ")[2].removesuffix(" ms"))
            yield Verdict(f"{what}, slowest kind", wanted, found.slowest, slowest < PAGE_MS)


def _tasks(results: Results) -> Iterator[Verdict]:
    found = [one for one in results.tasks() if one.count >= JUDGED_TASKS]
    for one in found:
        what = f"a background task on SQLite, {one.count:,} of them"
        cost, stall = ms_per_step(one.cells), one.most("stall_ms")
        yield Verdict(what, f"at most {TASK_MS:g} ms", f"{cost:.2f} ms", cost <= TASK_MS)
        wanted = f"at most {STALL_MS:g} ms"
        yield Verdict(f"{what}: longest stall", wanted, f"{stall:.0f} ms", stall <= STALL_MS)
    if len(found) > 1:
        small, large = found[0], found[-1]
        sizes = f"{large.count:,} tasks against {small.count:,}"
        longer = ms_per_step(large.cells) / ms_per_step(small.cells)
        yield _growth(f"time a task, {sizes}", longer, TIME_GROWTH)
        more = peak_mib(large.cells) / peak_mib(small.cells)
        yield _growth(f"memory, {sizes}", more, TIME_GROWTH)


def _requests(results: Results) -> Iterator[Verdict]:
    found = results.requests()
    if found:
        more = median(one.figures["with_ms"] - one.figures["without_ms"] for one in found)
        what = "an answer that adds a background task, against one that does not, median"
        wanted = f"at most {REQUEST_MS:g} ms more"
        yield Verdict(what, wanted, f"{more:.2f} ms more", more <= REQUEST_MS)


def _shown(results: Results) -> Iterator[Verdict]:
    for one in results.pages():
        store, wanted = one.cell.store, f"less than {SHOWN_MS:g} ms"
        for name, what in (("page", "page of the dashboard"), ("data", "answer of the API")):
            slowest = one.asked[name].slowest
            took = float(slowest.rpartition(": ")[2].removesuffix(" ms"))
            what = f"{store}, the slowest {what} over {one.cell.sizes.stored:,} runs"
            yield Verdict(what, wanted, slowest, took < SHOWN_MS)
        ratio = one.figures["beside_ms"] / one.figures["alone_ms"]
        what = f"{store}, an answer of the application with ten open tabs against none, median"
        yield _growth(what, ratio, TABS_GROWTH)


def _growth(what: str, ratio: float, most: float) -> Verdict:
    return Verdict(what, f"at most {most:g} times", f"{ratio:.2f} times", ratio <= most)
