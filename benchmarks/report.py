"""The measurements as Markdown tables, and the page of the documentation that shows them."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.matrix import COMPARED, Shape, Store
from benchmarks.results import (
    Comparison,
    Measured,
    Results,
    Tasks,
    ms_per_step,
    peak_mib,
    sent_per_step,
)
from benchmarks.targets import Verdict, judged

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"

SHAPES = {
    Shape.CHAIN: "chain of {steps:,} steps",
    Shape.MANY: "{runs:,} pipelines of {run_steps} steps at once",
    Shape.DIAMOND: "1 step, then {fan:,}, then 1; {diamonds} times",
    Shape.MAP: "map of {items:,} items, {window:,} at once, and their sum",
}
STORES = {
    Store.MEMORY: "memory",
    Store.SQLITE: "SQLite",
    Store.REDIS: "Redis",
    Store.POSTGRES: "PostgreSQL",
}
PACKAGES = ("taskiq", "taskiq-redis", "redis", "hiredis", "asyncpg", "uvloop")


def sections(results: Results, surroundings: Mapping[str, str]) -> dict[str, str]:
    """The generated parts of the page, by the name in their markers."""
    return {
        "environment": _environment(results, surroundings),
        "targets": _targets(judged(results)),
        "shapes": _comparisons(results),
        "growth": _growth(results),
        "listing": _listing(results),
        "pages": _pages(results),
        "tasks": _tasks(results),
    }


def as_text(parts: Mapping[str, str]) -> str:
    return "\n\n".join(part for part in parts.values() if part)


def write_page(parts: Mapping[str, str], page: Path = PAGE) -> None:
    """Put the parts between their markers; everything else on the page is written by hand."""
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        between = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        text, count = between.subn(
            lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text
        )
        assert count == 1, f"{page.name} has no place for {name!r}"
    page.write_text(text, encoding="utf-8")


def _environment(results: Results, surroundings: Mapping[str, str]) -> str:
    rounds = len({one.round for one in results.cells})
    facts = {
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "Python": platform.python_version(),
        **surroundings,
        "Packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "Rounds": str(rounds),
    }
    return _table(("", ""), facts.items())


def _targets(verdicts: Sequence[Verdict]) -> str:
    rows = [
        (one.promise, one.wanted, one.found, "yes" if one.holds else "**no**") for one in verdicts
    ]
    return _table(("what", "wanted", "measured", "held"), rows) if rows else ""


def _comparisons(results: Results) -> str:
    head = (
        "work",
        "store",
        "times as fast",
        "Taskiq-Flow",
        "plain Taskiq",
        "sent per step",
        "plain",
        "peak memory",
        "plain",
    )
    rows = [
        _comparison_row(compared)
        for shape in COMPARED
        for store in Store
        if (compared := results.comparison(shape, store)).ratio is not None
    ]
    return _table(head, rows) if rows else ""


def _comparison_row(compared: Comparison) -> tuple[str, ...]:
    flow, plain, ratios = compared.flow, compared.plain, compared.ratios
    sizes = flow[0].cell.sizes
    return (
        SHAPES[compared.shape].format(**{name: getattr(sizes, name) for name in sizes.__slots__}),
        STORES[compared.store],
        f"**{compared.ratio:.2f}** ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        _speed(compared.shape, ms_per_step(flow)),
        _speed(compared.shape, ms_per_step(plain)),
        _sent(compared.store, compared.sent_per_step),
        _sent(compared.store.reference, sent_per_step(plain)),
        f"{peak_mib(flow):.0f} MiB",
        f"{peak_mib(plain):.0f} MiB",
    )


def _speed(shape: Shape, milliseconds: float) -> str:
    """Time where steps wait for each other, a rate where they do not."""
    if shape in (Shape.CHAIN, Shape.LONG_CHAIN):
        return f"{milliseconds:.2f} ms a step"
    unit = "items" if shape in (Shape.MAP, Shape.WIDE_MAP) else "steps"
    return f"{1000 / milliseconds:,.0f} {unit}/s"


def _sent(store: Store, count: float | None) -> str:
    if count is None:
        return "nothing" if store is Store.MEMORY else "-"
    return f"{count:.2f} {'commands' if store is Store.REDIS else 'statements'}"


def _growth(results: Results) -> str:
    maps = [
        (
            f"map of {one.cell.sizes.items:,} items on Redis",
            _speed(Shape.WIDE_MAP, one.ms_per_step),
            f"{one.peak_mib:.0f} MiB",
            "",
        )
        for one in results.wide_maps()
    ]
    chains = [(_chain_title(one), *_chain_cost(one)) for one in results.long_chains()]
    head = ("run", "speed", "peak memory", "near its start, at its end")
    return _table(head, [*maps, *chains]) if maps or chains else ""


def _listing(results: Results) -> str:
    rows = [
        (
            STORES[one.cell.store],
            f"{one.cell.sizes.stored:,}",
            *(_asked(one, name) for name in ("tracking", "page", "count", "overview")),
            one.asked["page"].slowest,
        )
        for one in results.listings()
    ]
    head = (
        *("store", "ended runs", "`list_pipelines`", "a page of the store", "a count"),
        *("the overview's parts", "slowest page"),
    )
    return _table(head, rows) if rows else ""


def _tasks(results: Results) -> str:
    rows = [
        (
            f"{one.count:,}",
            " ".join([f"{cost:.2f}" for cost in one.costs]) + " ms",
            f"{one.middle('busy_ms'):.2f} ms",
            f"{one.middle('untuned_ms'):.2f} ms",
            f"{one.middle('backlog_ms'):.2f} ms",
            f"{one.middle('alone_ms'):.1f} ms",
            _stall(one),
            f"{peak_mib(one.cells):.0f} MiB",
        )
        for one in results.tasks()
    ]
    head = (
        *(
            "tasks",
            "each, by round",
            "of the processor",
            "collector untuned",
            "backlog of 1,000",
            "one alone",
        ),
        *("longest stall (by the clock, collector)", "memory"),
    )
    parts = [_table(head, rows)] if rows else []
    answers = [
        "{without_ms:.2f} ms without a task, {with_ms:.2f} ms with one".format_map(one.figures)
        for one in results.requests()
    ]
    if answers:
        parts.append(f"An answer of a server took {'; '.join(answers)} (medians of each round).")
    return "\n\n".join(parts)


def _stall(tasks: Tasks) -> str:
    by_clock, collecting = tasks.most("by_clock_ms"), tasks.most("collecting_ms")
    return f"{tasks.most('stall_ms'):.0f} ms ({by_clock:.0f} ms, {collecting:.0f} ms)"


def _pages(results: Results) -> str:
    rows = [
        (
            STORES[one.cell.store],
            f"{one.cell.sizes.stored:,}",
            *(_asked(one, name) for name in ("page", "data")),
            one.asked["page"].slowest,
            "{alone_ms:.2f} ms, {beside_ms:.2f} ms".format_map(one.figures),
        )
        for one in results.pages()
    ]
    head = ("store", "ended runs", "a page", "the API", "slowest page", "no tabs, ten tabs")
    return _table(head, rows) if rows else ""


def _asked(one: Measured, name: str) -> str:
    return f"{one.asked[name].p50_ms:.1f} ms, at most {one.asked[name].max_ms:.0f} ms"


def _chain_title(one: Measured) -> str:
    where = STORES[one.cell.store]
    how = ", `InMemoryBroker(await_inplace=True)`" if one.cell.in_place else ""
    return f"chain of {one.cell.sizes.steps:,} steps, {where}{how}"


def _chain_cost(one: Measured) -> tuple[str, str, str]:
    edges = f"{one.first_ms:.3f} ms, {one.last_ms:.3f} ms a step"
    return _speed(Shape.LONG_CHAIN, one.ms_per_step), f"{one.peak_mib:.0f} MiB", edges


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
