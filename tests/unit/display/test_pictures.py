"""What is drawn of a run: the rows that matter, in every kind of screen."""

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from taskiq_flow.display import RunPicture, StepRow, make_screen, picture_of
from taskiq_flow.display.bars import RunView
from taskiq_flow.display.notebook import as_html
from taskiq_flow.display.pace import Pace
from taskiq_flow.display.picture import Gap, fit
from taskiq_flow.display.plain import PlainScreen
from taskiq_flow.tracking.models import PipelineStatus, StepStatus

NOW = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)
BEGAN = NOW - timedelta(seconds=30)
HOSTILE = "[bold]x[/bold] <script>alert(1)</script> \x1b[31m \u202e"


def status(*steps: StepStatus, word: str = "RUNNING", total: int = 0) -> PipelineStatus:
    return PipelineStatus(
        pipeline_id="nightly",
        run_id="01a1fe34-863c-7000-a751-79c30e1c98b9",
        status=word,
        started_at=BEGAN,
        steps=list(steps),
        steps_total=total or len(steps),
        steps_left=sum(step.completed_at is None for step in steps),
    )


def drawn(picture: RunPicture, *, width: int = 100, height: int = 30) -> str:
    file = io.StringIO()
    console = Console(
        file=file, width=width, height=height, color_system=None, legacy_windows=False
    )
    console.print(RunView(picture))
    return file.getvalue()


def rows(*statuses: str) -> list[StepRow]:
    return [StepRow(f"step-{number}", word) for number, word in enumerate(statuses)]


def test_a_map_is_drawn_by_its_items_and_a_step_by_what_it_says() -> None:
    picture = picture_of(
        status(
            StepStatus(
                step_name="measures", status="RUNNING", started_at=BEGAN, items_total=200,
                items_done=50, items_failed=2,
            ),
            StepStatus(
                step_name="train", step_index=1, status="RUNNING", started_at=BEGAN,
                progress={"current": 3, "total": 4, "message": "epoch 3"},
            ),
        ),
        now=NOW,
    )  # fmt: skip

    measures, train = picture.rows

    assert (measures.fraction, measures.failed) == (0.25, 2)
    assert (train.fraction, train.message) == (0.75, "epoch 3")
    text = drawn(picture)
    assert "50 of 200" in text
    assert "2 failed" in text
    assert "epoch 3" in text


def test_progress_that_makes_no_sense_is_drawn_as_unknown() -> None:
    for said in ({"current": -1, "total": 2}, {"current": "x"}, ["?"], {"total": None}, "words"):
        step = StepStatus(step_name="odd", status="RUNNING", started_at=BEGAN, progress=said)

        picture = picture_of(status(step), now=NOW)

        assert picture.rows[0].fraction is None
        assert "odd" in drawn(picture)


def test_a_high_run_shows_what_goes_on_and_counts_the_rest() -> None:
    many = rows(*["COMPLETED"] * 900, "RUNNING", "FAILED", *["WAITING"] * 98)

    chosen = fit(many, 12)

    names = [row.name for row in chosen if isinstance(row, StepRow)]
    assert {"step-900", "step-901", "step-899", "step-902"} <= set(names)
    gaps = [row for row in chosen if isinstance(row, Gap)]
    assert sum(sum(gap.counts.values()) for gap in gaps) + len(names) == 1000
    assert len(chosen) <= 12


def test_a_run_of_a_thousand_running_steps_fits_too() -> None:
    assert len(fit(rows(*["RUNNING"] * 1000), 10)) <= 10


def test_a_picture_is_never_wider_than_its_console() -> None:
    step = StepStatus(
        step_name="n" * 500, status="FAILED", started_at=BEGAN, completed_at=NOW, error="e" * 5000
    )
    for width in (20, 40, 71, 80, 200):
        lines = drawn(picture_of(status(step, word="FAILED"), now=NOW), width=width).splitlines()

        assert max(map(len, lines)) <= width


def test_text_of_a_run_is_neither_markup_nor_html_nor_control() -> None:
    step = StepStatus(
        step_name=HOSTILE, status="FAILED", started_at=BEGAN, completed_at=NOW, error=HOSTILE
    )
    picture = picture_of(status(step, word="FAILED"), note=HOSTILE, now=NOW)
    plain = io.StringIO()
    PlainScreen(plain).show(picture)

    html = as_html(picture, said=[HOSTILE])

    assert "<script" not in html
    for text in (drawn(picture, width=300), plain.getvalue(), html):
        assert "[bold]x" in text
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_plain_lines_name_each_step_once_and_the_end_once() -> None:
    file = io.StringIO()
    screen = PlainScreen(file)
    step = StepStatus(step_name="load", status="COMPLETED", started_at=BEGAN, completed_at=NOW)

    for word in ("RUNNING", "COMPLETED", "COMPLETED"):
        screen.show(picture_of(status(step, word=word), now=NOW))

    assert file.getvalue().splitlines() == [
        "load: completed after 30 s",
        "run …0e1c98b9 COMPLETED after 30 s",
    ]


def test_plain_lines_say_now_and_then_how_far_it_is() -> None:
    file = io.StringIO()
    screen = PlainScreen(file, every_seconds=0)
    step = StepStatus(
        step_name="measures", status="RUNNING", started_at=BEGAN, items_total=9, items_done=3
    )

    screen.show(picture_of(status(step, total=2), now=NOW))

    assert "measures 3 of 9" in file.getvalue()


def test_a_screen_that_is_no_terminal_gets_plain_lines() -> None:
    assert isinstance(make_screen(Console(file=io.StringIO())), PlainScreen)


def test_the_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    for second, done in ((0, 0), (20, 10), (24, 50), (28, 90)):
        step = StepStatus(
            step_name="m", status="RUNNING", started_at=BEGAN, items_total=99, items_done=done
        )
        rates = pace.note(picture_of(status(step), now=NOW), now=float(second))

    assert rates == {"m": 10.0}
