"""What observers are told, and what they cannot do to anybody."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from fastapi_taskflow.exceptions import LoggerOptionError
from fastapi_taskflow.loggers import (
    FileLogger,
    InMemoryLogger,
    LifecycleEvent,
    LogEvent,
    LoggerChain,
    StdoutLogger,
    TaskObserver,
)
from fastapi_taskflow.loggers.delivery import Delivery
from fastapi_taskflow.models import TaskStatus

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ID = "abc12345-0000-4000-8000-000000000000"


def said(message: str, *, level: str = "info", task_id: str = ID) -> LogEvent:
    return LogEvent(task_id, "send_email", message, level, NOON)


def became(status: TaskStatus) -> LifecycleEvent:
    return LifecycleEvent(ID, "send_email", status, NOON)


@asynccontextmanager
async def telling(*observers: TaskObserver) -> AsyncIterator[LoggerChain]:
    chain = LoggerChain(observers)
    await chain.startup()
    try:
        yield chain
    finally:
        await chain.close()


class Listening(TaskObserver):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    async def on_log(self, event: LogEvent) -> None:
        self.heard.append(event.message)


async def test_a_file_has_a_line_for_each_event_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "tasks.log"

    async with telling(FileLogger(path, log_lifecycle=True)) as chain:
        chain.tell(became(TaskStatus.RUNNING))
        chain.tell(said("Sending to user@example.com"))
        chain.tell(said("--- Retry 1 ---"))
        chain.tell(became(TaskStatus.SUCCESS))

    assert path.read_text() == (
        "[abc12345] [send_email] 2026-01-01T12:00:00 -- RUNNING\n"
        "[abc12345] [send_email] 2026-01-01T12:00:00 Sending to user@example.com\n"
        "[abc12345] [send_email] --- Retry 1 ---\n"
        "[abc12345] [send_email] 2026-01-01T12:00:00 -- SUCCESS\n"
    )


async def test_times_in_lines_are_utc(tmp_path: Path) -> None:
    path = tmp_path / "tasks.log"
    there = NOON.astimezone(timezone(timedelta(hours=5)))

    async with telling(FileLogger(path)) as chain:
        chain.tell(LogEvent(ID, "f", "x", "info", there))

    assert path.read_text() == "[abc12345] [f] 2026-01-01T12:00:00 x\n"


async def test_status_lines_are_written_only_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "tasks.log"

    async with telling(FileLogger(path)) as chain:
        chain.tell(became(TaskStatus.RUNNING))

    assert path.read_text() == ""


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\r\nb", "a\x1b[31mb", "a\x00b", "a\u2028b", "a\u0085b", "a\ud800b", "a\u202eb"],
    ids=ascii,
)
async def test_one_event_is_one_line_that_no_terminal_obeys(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tasks.log"

    async with telling(FileLogger(path)) as chain:
        chain.tell(said(text))

    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1
    assert lines[0].isprintable()


async def test_ordinary_text_of_any_script_is_written_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tasks.log"

    async with telling(FileLogger(path)) as chain:
        chain.tell(said(r"C:\temp żółć 你好 🎉"))

    assert path.read_text(encoding="utf-8").endswith(" C:\\temp żółć 你好 🎉\n")


async def test_stdout_prints_what_a_file_would_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tasks.log"
    observers = FileLogger(path, log_lifecycle=True), StdoutLogger(log_lifecycle=True)

    async with telling(*observers) as chain:
        chain.tell(became(TaskStatus.RUNNING))
        chain.tell(said("Connecting"))

    assert capsys.readouterr().out == path.read_text() != ""


async def test_below_its_level_an_observer_hears_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Failures count as errors and interruptions as warnings, other statuses as info."""
    async with telling(StdoutLogger(log_lifecycle=True, min_level="warning")) as chain:
        for level in ("debug", "info", "warning", "error"):
            chain.tell(said(f"a {level}", level=level))
        for status in (TaskStatus.RUNNING, TaskStatus.FAILED, TaskStatus.INTERRUPTED):
            chain.tell(became(status))

    heard = [line.partition(":00 ")[2] for line in capsys.readouterr().out.splitlines()]
    assert heard == ["a warning", "a error", "-- FAILED", "-- INTERRUPTED"]


async def test_a_file_is_rotated_at_its_size_and_old_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "tasks.log"

    async with telling(FileLogger(path, max_bytes=200, backup_count=2)) as chain:
        for number in range(20):
            chain.tell(said(f"line {number}"))

    assert sorted(os.listdir(tmp_path)) == ["tasks.log", "tasks.log.1", "tasks.log.2"]
    assert path.read_text().splitlines()[-1].endswith("line 19")


async def test_a_watched_file_that_was_renamed_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "tasks.log"

    async with telling(FileLogger(path, mode="watched")) as chain:
        chain.tell(said("before"))
        await chain.flush()
        path.rename(tmp_path / "old.log")
        chain.tell(said("after"))

    assert path.read_text().endswith("after\n")
    assert (tmp_path / "old.log").read_text().endswith("before\n")


async def test_a_path_given_twice_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)

    async with telling(FileLogger("tasks.log"), FileLogger(tmp_path / "tasks.log")) as chain:
        chain.tell(said("once"))

    assert len((tmp_path / "tasks.log").read_text().splitlines()) == 1
    assert "is written by another FileLogger already" in caplog.text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FileLogger("x", mode="rotating"), "mode='rotating' is not known.*'watched'"),
        (lambda: FileLogger("x", min_level="loud"), "min_level='loud' is not known.*'warning'"),
        (lambda: StdoutLogger(min_level="loud"), "min_level='loud'"),
        (lambda: FileLogger("x", max_bytes=-1), "max_bytes=-1"),
        (lambda: LoggerChain([object()]), "instances of TaskObserver"),  # type: ignore[list-item]
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(
    make: Callable[[], object], words: str
) -> None:
    with pytest.raises(LoggerOptionError, match=words):
        make()


async def test_a_logger_in_memory_has_an_event_as_soon_as_it_happened() -> None:
    memory = InMemoryLogger()
    chain = LoggerChain([memory])

    chain.tell(became(TaskStatus.RUNNING))
    chain.tell(said("quiet", level="debug"))

    assert [event.message for event in memory.log_events] == ["quiet"]
    assert [event.status.value for event in memory.lifecycle_events] == ["running"]
    memory.clear()
    assert memory.log_events == memory.lifecycle_events == []


async def test_a_subclass_of_it_is_told_through_its_own_methods() -> None:
    class Shouting(InMemoryLogger):
        async def on_log(self, event: LogEvent) -> None:
            self.loud = event.message.upper()

    shouting = Shouting()

    async with telling(shouting) as chain:
        chain.tell(said("quiet"))

    assert shouting.loud == "QUIET"


async def test_events_come_in_their_order_from_any_thread_and_from_before_the_start() -> None:
    listening = Listening()
    chain = LoggerChain([listening])
    chain.tell(said("before"))

    def tell_many(thread: int) -> None:
        for number in range(200):
            chain.tell(said(f"{thread} {number}"))

    await chain.startup()
    await asyncio.gather(*(asyncio.to_thread(tell_many, thread) for thread in range(4)))
    await chain.close()

    assert listening.heard[0] == "before"
    by_thread: dict[str, list[int]] = {}
    for line in listening.heard[1:]:
        thread, number = line.split()
        by_thread.setdefault(thread, []).append(int(number))
    assert sum(map(len, by_thread.values())) == 800
    assert all(numbers == sorted(numbers) for numbers in by_thread.values())


async def test_what_one_observer_raises_costs_nobody_an_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Raising(TaskObserver):
        async def startup(self) -> None:
            raise OSError("no connection")

        async def on_log(self, event: LogEvent) -> None:
            sys.exit(1)

        async def on_lifecycle(self, event: LifecycleEvent) -> None:
            raise asyncio.CancelledError

        async def close(self) -> None:
            raise ValueError("closed twice")

    listening = Listening()

    async with telling(Raising(), listening) as chain:
        chain.tell(became(TaskStatus.RUNNING))
        chain.tell(said("first"))
        chain.tell(said("second"))

    assert listening.heard == ["first", "second"]
    assert "Raising.startup failed (1 time(s) so far)" in caplog.text
    assert "Raising.on_lifecycle failed (2 time(s) so far)" in caplog.text


async def test_nobody_waits_for_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_taskflow.loggers.delivery.PATIENCE_SECONDS", 0.05)

    class Hanging(TaskObserver):
        async def startup(self) -> None:
            await asyncio.Event().wait()

        async def close(self) -> None:
            await asyncio.Event().wait()

    class Blocking(TaskObserver):
        own_thread = True
        go_on = threading.Event()

        async def on_log(self, event: LogEvent) -> None:
            self.go_on.wait(20)

    listening = Listening()
    before = time.monotonic()

    async with telling(Hanging(), Blocking(), listening) as chain:
        chain.tell(said("x"))

    assert listening.heard == ["x"]
    assert time.monotonic() - before < 5
    Blocking.go_on.set()


async def test_an_observer_that_is_too_slow_loses_events_and_the_log_says_how_many(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listening = Listening()
    delivery = Delivery(listening, most=10)

    for number in range(14):
        delivery.put(said(str(number)))
    await delivery.start()
    await delivery.stop()

    assert listening.heard == [str(number) for number in range(10)]
    assert delivery.dropped == 4
    assert "Listening is too slow: 4 event(s) dropped so far." in caplog.text


async def test_an_observer_is_closed_after_its_last_event_and_can_start_again() -> None:
    class Connected(Listening):
        async def startup(self) -> None:
            self.heard.append("startup")

        async def close(self) -> None:
            self.heard.append("close")

    connected = Connected()
    chain = LoggerChain([connected])

    for name in ("one", "two"):
        await chain.startup()
        chain.tell(said(name))
        await chain.close()

    assert connected.heard == ["startup", "one", "close", "startup", "two", "close"]


async def test_a_file_that_cannot_be_written_is_an_error_in_the_log_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        async with telling(FileLogger(tmp_path / "missing" / "tasks.log")) as chain:
            chain.tell(said("x"))

    assert "FileLogger.startup failed" in caplog.text
