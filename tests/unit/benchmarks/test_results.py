"""How measurements become numbers, judgements and a page."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.matrix import FULL, Cell, Shape, Side, Store, growth_cells, round_of
from benchmarks.report import PAGE, sections, write_page
from benchmarks.results import Asked, Measured, Results
from benchmarks.targets import judged


def measured(
    seconds: float,
    *,
    side: Side = Side.FLOW,
    store: Store = Store.REDIS,
    number: int = 0,
    ok: bool = True,
) -> Measured:
    cell = Cell(Shape.CHAIN, store, side)
    return Measured(cell, number, seconds=seconds, steps=100, ok=ok, peak_mib=70.0)


def test_a_ratio_is_taken_within_one_round_and_the_median_is_shown() -> None:
    """The second round was slow for both; against the first round's plain cell it would be 1."""
    times = [(0.1, 0.5), (1.0, 8.0), (0.1, 0.6)]
    results = Results(
        [
            cell
            for number, (flow, plain) in enumerate(times)
            for cell in (
                measured(plain, side=Side.PLAIN, number=number),
                measured(flow, number=number),
            )
        ]
    )

    compared = results.comparison(Shape.CHAIN, Store.REDIS)

    assert compared.ratios == pytest.approx([5.0, 6.0, 8.0])
    assert compared.ratio == pytest.approx(6.0)


def test_a_store_is_compared_with_plain_taskiq_on_the_same_broker() -> None:
    results = Results(
        [
            measured(1.0, side=Side.PLAIN, store=Store.MEMORY),
            measured(6.0, side=Side.PLAIN, store=Store.REDIS),
            measured(2.0, store=Store.SQLITE),
            measured(2.0, store=Store.POSTGRES),
        ]
    )

    assert results.comparison(Shape.CHAIN, Store.SQLITE).ratio == pytest.approx(0.5)
    assert results.comparison(Shape.CHAIN, Store.POSTGRES).ratio == pytest.approx(3.0)


def test_a_wrong_result_counts_as_a_failure_and_in_no_ratio() -> None:
    wrong = measured(0.001, ok=False)
    results = Results([measured(0.5, side=Side.PLAIN), wrong])

    assert results.failures == [wrong]
    assert results.comparison(Shape.CHAIN, Store.REDIS).ratio is None


@pytest.mark.parametrize(("seconds", "holds"), [(0.1, True), (0.11, False)])
def test_a_wish_is_held_against_what_was_measured(seconds: float, holds: bool) -> None:
    results = Results([measured(0.5, side=Side.PLAIN), measured(seconds)])

    (verdict,) = judged(results)

    assert verdict.wanted == "at least 5"
    assert verdict.holds is holds


def test_plain_taskiq_takes_its_turn_right_before_the_stores_that_are_compared_with_it() -> None:
    cells = list(round_of([Shape.CHAIN], list(Store), FULL, count=False))

    assert [(cell.store, cell.side) for cell in cells] == [
        (Store.MEMORY, Side.PLAIN),
        (Store.MEMORY, Side.FLOW),
        (Store.SQLITE, Side.FLOW),
        (Store.REDIS, Side.PLAIN),
        (Store.REDIS, Side.FLOW),
        (Store.POSTGRES, Side.FLOW),
    ]


def test_a_cell_reads_back_as_it_was_written() -> None:
    for cell in growth_cells(list(Store), quick=False):
        assert Cell.from_json(cell.to_json()) == cell


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Above.\n<!-- a: begin -->\nold\n<!-- a: end -->\nBelow.\n", encoding="utf-8")

    write_page({"a": "new"}, page)
    write_page({"a": "newer"}, page)

    assert page.read_text(encoding="utf-8") == (
        "Above.\n<!-- a: begin -->\n\nnewer\n\n<!-- a: end -->\nBelow.\n"
    )


def test_the_page_has_a_place_for_every_table(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")

    write_page(sections(Results([measured(1.0)]), {"Redis": "7"}), page)

    assert "| Redis | 7 |" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("beside", "holds"), [(1.2, True), (1.3, False)])
def test_pages_and_open_tabs_are_held_against_their_wishes(beside: float, holds: bool) -> None:
    page, data = Asked(9.0, 99.0, "overview: 99.0 ms"), Asked(9.0, 120.0, "runs: 101.0 ms")
    cell = Cell(Shape.PAGES, Store.SQLITE)
    facts = {"asked": {"page": page, "data": data}, "figures": {"alone_ms": 1, "beside_ms": beside}}
    results = Results([Measured(cell, 0, seconds=9.0, steps=9, ok=True, **facts)])

    verdicts = judged(results)

    assert [verdict.holds for verdict in verdicts] == [True, False, holds]
    assert "| SQLite | 100,000 | 9.0 ms, at most 99 ms |" in sections(results, {})["pages"]


@pytest.mark.parametrize(("slowest", "holds"), [("49.9", True), ("50.1", False)])
def test_the_slowest_kind_of_page_is_held_against_the_wish_too(slowest: str, holds: bool) -> None:
    found = Asked(p50_ms=3.0, max_ms=80.0, slowest=f"failed, tag: {slowest} ms")
    tracking = Asked(p50_ms=2.0, max_ms=9.0, slowest="list_pipelines(): 4.0 ms")
    asked = {"tracking": tracking, "page": found, "count": found, "overview": found}
    cell = Cell(Shape.LISTING, Store.REDIS)
    results = Results([Measured(cell, 0, seconds=9.0, steps=9, ok=True, asked=asked)])

    verdicts = judged(results)

    assert [verdict.holds for verdict in verdicts] == [True, True, True, holds]
    shown = "| Redis | 100,000 | 2.0 ms, at most 9 ms | 3.0 ms, at most 80 ms |"
    assert shown in sections(results, {})["listing"]


def test_of_the_rounds_of_background_tasks_the_middle_cost_counts_and_the_longest_stall() -> None:
    def round_(number: int, tasks: int, cost_ms: float, stall_ms: float) -> Measured:
        cell = Cell(Shape.TASKS, Store.SQLITE, sizes=replace(FULL, tasks=tasks))
        names = ("busy_ms", "untuned_ms", "backlog_ms", "alone_ms", "collecting_ms")
        figures = dict.fromkeys(names, 1.0) | {"stall_ms": stall_ms, "by_clock_ms": 90.0}
        seconds = cost_ms * tasks / 1000
        return Measured(cell, number, seconds, tasks, ok=True, peak_mib=90.0, figures=figures)

    small = [(0.40, 11.0), (0.70, 12.0), (0.41, 13.0)]
    large = [(0.52, 20.0), (0.48, 51.0), (0.49, 30.0)]
    results = Results(
        [
            round_(number, count, *found)
            for count, rounds in ((100_000, large), (1000, small))
            for number, found in enumerate(rounds)
        ]
    )

    shown = [(verdict.found, verdict.holds) for verdict in judged(results)]

    assert shown[:2] == [("0.41 ms", True), ("13 ms", True)]
    assert shown[2:4] == [("0.49 ms", True), ("51 ms", False)]
    assert shown[4][0].startswith("1.2")
    assert "| 1,000 | 0.40 0.41 0.70 ms |" in sections(results, {})["tasks"]
    assert "| 13 ms (90 ms, 1 ms) |" in sections(results, {})["tasks"]
