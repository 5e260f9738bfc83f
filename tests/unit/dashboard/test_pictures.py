from datetime import timedelta
from itertools import pairwise

import pytest

from taskiq_flow.dashboard.pictures.charts import round_up, sparkline, throughput
from taskiq_flow.dashboard.pictures.graph import counted, draw, group_graph
from taskiq_flow.dashboard.pictures.heat import CELLS, shades, spread
from taskiq_flow.dashboard.pictures.timeline import chart
from taskiq_flow.model.records import StepKind, StepStatus
from taskiq_flow.operations import (
    BarKind,
    Bucket,
    EdgeState,
    HeatCell,
    Timeline,
    TimelineBar,
    TimelineRow,
)
from tests.unit.dashboard.shapes import NOW, at, graph, step


def test_boxes_stand_from_left_to_right_and_none_overlaps_another() -> None:
    steps = [step(name) for name in ("start", "left", "right", "end")]
    edges = [
        ("start", "left"),
        ("start", "right"),
        ("left", "end"),
        ("right", "end"),
        ("start", "end"),
    ]

    picture = draw(graph(steps, edges), NOW)

    box = {one.key: one for one in picture.boxes}
    assert box["start"].x + box["start"].width < box["left"].x
    assert box["left"].x == box["right"].x
    assert box["left"].x + box["left"].width < box["end"].x
    high, low = sorted((box["left"], box["right"]), key=lambda one: one.y)
    assert high.y + high.height < low.y
    assert len(picture.curves) == 5
    assert max(one.x + one.width for one in picture.boxes) <= picture.width


def test_a_map_of_a_hundred_thousand_items_is_as_light_as_one_of_three_hundred() -> None:
    def weight(total: int) -> int:
        facts = {"items_total": total, "items_done": total // 2, "items_failed": total // 50}
        work = step("work", StepStatus.RUNNING, kind=StepKind.MAP, is_map=True, **facts)
        (box,) = draw(graph([work], []), NOW).boxes
        return sum(len(shade.path) for shade in box.heat)

    assert weight(100_000) < 8_000
    assert weight(100_000) < 1.2 * weight(300)


def test_an_edge_shows_what_goes_along_it() -> None:
    steps = [step("a"), step("b", StepStatus.RUNNING), step("c", StepStatus.SKIPPED)]
    states = {("a", "b"): EdgeState.FLOWING, ("a", "c"): EdgeState.CUT}

    picture = draw(graph(steps, states, states), NOW)

    assert {curve.key: curve.style for curve in picture.curves} == {"a>b": "flow", "a>c": "cut"}


def test_a_node_says_the_reason_and_not_only_the_status() -> None:
    waits = step("gate", StepStatus.READY, kind=StepKind.EVENT, event="approved", started_at=None)
    again = step("sync", StepStatus.RETRYING, attempt=3, attempts_most=5, retry_at=at(8))
    lost = step("skipped", StepStatus.SKIPPED, note="needs images")

    lines = {
        one.key: (one.word, one.line) for one in draw(graph([waits, again, lost], []), NOW).boxes
    }

    assert lines == {
        "gate": ("event", "waits for an event"),
        "sync": ("retrying", "attempt 4 of 5 in 8 s"),
        "skipped": ("skipped", "skipped: needs images"),
    }


def test_a_group_says_what_is_in_it_and_shows_the_worst() -> None:
    steps = [
        step(f"work{n}", StepStatus.FAILED if n == 7 else StepStatus.COMPLETED) for n in range(90)
    ]

    given = graph(steps, [])
    (box,) = draw(given, NOW, group_graph(given, frozenset())).boxes

    assert box.word == "failed"
    assert box.line == "1 failed, 89 completed"
    assert [word for word, _, _ in box.shares] == ["completed", "failed"]
    assert sum(share for _, _, share in box.shares) == pytest.approx(100, abs=0.1)


def test_counts_name_the_worst_first() -> None:
    assert counted(["completed", "event", "failed"]) == (
        "1 failed, 1 waiting for an event, 1 completed"
    )


@pytest.mark.parametrize("total", [1, 37, 228, 10_000, 100_000])
def test_a_heat_strip_has_few_cells_and_at_most_seven_paths(total: int) -> None:
    cells = spread(total=total, done=total // 2, failed=total // 100, is_live=True)
    drawn = shades(cells, x=0, y=0)

    assert len(cells) == min(total, CELLS)
    assert cells[-1].stop == total
    assert len(drawn) <= 7
    assert sum(shade.path.count("M") for shade in drawn) == len(cells)


def test_a_single_failed_item_has_a_cell_however_many_there_are() -> None:
    cells = spread(total=100_000, done=100_000, failed=1, is_live=False)

    assert sum(cell.failed > 0 for cell in cells) == 1
    assert all(cell.done or cell.failed for cell in cells)


def test_a_cell_is_the_worst_of_its_items_else_the_share_that_is_done() -> None:
    cells = [
        HeatCell(0, 4, 3, 1, 0),
        HeatCell(4, 8, 4, 0, 0),
        HeatCell(8, 12, 2, 0, 2),
        HeatCell(12, 16, 0, 0, 4),
    ]

    names = {shade.name for shade in shades(cells, x=0, y=0)}

    assert names == {"hb", "h3", "h2", "hr"}


def timeline(*rows: TimelineRow, live: bool = True, seconds: float = 100) -> Timeline:
    return Timeline("run", NOW, at(seconds), live, rows)


def test_a_timeline_goes_from_the_start_to_a_tenth_after_now() -> None:
    one = step("one", started_at=at(10), ended_at=at(60), duration_ms=50_000.0)
    bar = TimelineBar(BarKind.ATTEMPT, 1, at(10), at(60), StepStatus.COMPLETED)

    laid = chart(timeline(TimelineRow(one, (bar,))), (one,))

    assert laid.window.stop == pytest.approx(110)
    assert laid.rows[0].bars[0].x == pytest.approx(100 * 10 / 110, abs=0.01)
    assert laid.rows[0].bars[0].width == pytest.approx(100 * 50 / 110, abs=0.01)
    assert [tick.label for tick in laid.ticks][:3] == ["0:00", "0:15", "0:30"]
    assert 5 <= len(laid.ticks) <= 8


@pytest.mark.parametrize("seconds", [0.012, 0.11, 1.1, 10, 11.5, 100, 700, 5_000])
def test_the_times_below_a_timeline_are_as_far_apart_as_they_say(seconds: float) -> None:
    laid = chart(timeline(seconds=seconds), ())

    said = [tick.label for tick in laid.ticks]
    apart = {round(after - before, 6) for before, after in pairwise(map(seconds_of, said))}
    assert len(apart) == 1, said


def seconds_of(label: str) -> float:
    before, _, last = label.removesuffix(" h").rpartition(":")
    return (60 * int(before or 0) + float(last)) * (60 if label.endswith(" h") else 1)


def test_earlier_attempts_are_tinted_waiting_is_dotted_and_the_next_one_is_after_now() -> None:
    again = step(
        "sync", StepStatus.RETRYING, attempt=2, attempts_most=5, started_at=at(0), retry_at=at(104)
    )
    bars = (
        TimelineBar(BarKind.ATTEMPT, 1, at(0), at(20), StepStatus.FAILED),
        TimelineBar(BarKind.WAITING, 2, at(20), at(30), StepStatus.RETRYING),
        TimelineBar(BarKind.ATTEMPT, 2, at(30), at(90), StepStatus.FAILED),
        TimelineBar(BarKind.NEXT, 3, at(104), None, StepStatus.RETRYING),
    )

    laid = chart(timeline(TimelineRow(again, bars)), (again,))

    drawn = laid.rows[0].bars
    assert [bar.kind for bar in drawn] == ["soft", "waiting", "soft", "next"]
    assert [bar.number for bar in drawn] == [1, 0, 2, 3]
    assert drawn[3].x > laid.window.now_at
    assert all(bar.x + bar.width <= 100.1 for bar in drawn)


def test_a_zoom_shows_only_what_lies_in_it() -> None:
    early, late = step("early", started_at=at(0)), step("late", started_at=at(80))
    rows = (
        TimelineRow(early, (TimelineBar(BarKind.ATTEMPT, 1, at(0), at(5), StepStatus.COMPLETED),)),
        TimelineRow(late, (TimelineBar(BarKind.ATTEMPT, 1, at(80), at(90), StepStatus.COMPLETED),)),
    )

    laid = chart(timeline(*rows), (early, late), since=70, until=95)

    assert [len(row.bars) for row in laid.rows] == [0, 1]
    assert (laid.window.start, laid.window.stop) == (70, 95)
    assert chart(timeline(*rows), (early, late), since=-60).window.start == pytest.approx(40)


def test_steps_without_a_bar_have_a_row_that_says_why() -> None:
    left_out = step("gallery", StepStatus.SKIPPED, ended_at=at(50))
    waits = step("index", StepStatus.WAITING)

    rows = chart(timeline(), (left_out, waits)).rows

    assert [row.after for row in rows] == ["skipped at 0:50", "not started"]


def test_throughput_has_a_scale_of_round_numbers_and_failures_on_their_own() -> None:
    hour = timedelta(hours=1)
    buckets = [
        Bucket(NOW + n * hour, NOW + (n + 1) * hour, 10 * n, n % 3 == 2, 0) for n in range(24)
    ]

    drawn = throughput(buckets)

    assert drawn.scale == (300, 200, 100, 0)
    assert len(drawn.fails) == 8
    assert len(drawn.hits) == 24
    assert "230 completed, 1 failed" in drawn.hits[-1].said
    assert len(drawn.labels) == 8


@pytest.mark.parametrize("value", [0, 1, 7, 100, 899, 901, 12_345, 10**9])
def test_a_scale_ends_above_its_values_and_parts_into_thirds(value: int) -> None:
    top = round_up(value)

    assert top >= value
    assert top <= max(3, 4 * value)


def test_a_small_chart_of_nothing_is_a_flat_line() -> None:
    line, area = sparkline([0, 0, 0])

    assert line == "M0.0 30.0 L50.0 30.0 L100.0 30.0"
    assert area.endswith("Z")
    assert sparkline([]) == ("", "")
