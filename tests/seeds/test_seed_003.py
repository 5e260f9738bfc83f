"""Every block of the guide to observability runs as written, and does what the guide says."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastapi_taskflow import (
    InMemoryLogger,
    ManagedBackgroundTasks,
    TaskManager,
    TaskObserver,
    TaskStatus,
    task_log,
)
from fastapi_taskflow.loggers.base import LifecycleEvent, LogEvent
from tests.seeds.guide import HERE, Guide

TEXT = "seed-003-observability.txt"
LINE = re.compile(r"\[([0-9a-f]{8})\] \[send_email\] \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d (.+)")
ALL_SAID = ["-- RUNNING", "Connecting to SMTP server", "almost out of quota", "-- SUCCESS"]


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guide:
    # The files that the blocks make in the working directory.
    monkeypatch.chdir(tmp_path)
    return Guide(TEXT, __name__)


async def send_email(address: str) -> None:
    task_log("a detail", level="debug")
    task_log("Connecting to SMTP server", address=address)
    task_log("almost out of quota", level="warning")


async def reject() -> None:
    task_log("refused by the bank", level="error")
    raise ValueError("insufficient funds")


async def run(
    manager: TaskManager, func: Callable[..., Any], *args: Any, tags: dict[str, str] | None = None
) -> str:
    """Run one task of an application that starts and stops."""
    await manager.startup()
    try:
        task_id = ManagedBackgroundTasks(manager).add_task(func, *args, tags=tags)
        assert await manager.wait([task_id], timeout=20)
    finally:
        await manager.shutdown()
    return task_id


def read() -> str:
    return Path("tasks.log").read_text(encoding="utf-8")


def said(text: str, task_id: str) -> list[str]:
    """What lines say after the time; all of them are lines of this task."""
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    assert {match[1] for match in found if match} == {task_id[:8]}
    return [match[2] for match in found if match]


async def test_a_file_gets_a_line_for_each_event(guide: Guide) -> None:
    await guide.run(
        """
        from fastapi_taskflow import FileLogger, TaskManager

        task_manager = TaskManager(
            snapshot_db="tasks.db",
            loggers=[FileLogger("tasks.log", log_lifecycle=True)],
        )
        """
    )

    task_id = await run(guide["task_manager"], send_email, "user@example.com")

    assert said(read(), task_id) == ALL_SAID


async def test_stdout_gets_the_same_lines(guide: Guide, capsys: pytest.CaptureFixture[str]) -> None:
    await guide.run(
        """
        from fastapi_taskflow import StdoutLogger, TaskManager

        task_manager = TaskManager(
            loggers=[StdoutLogger(log_lifecycle=True)],
        )
        """
    )

    task_id = await run(guide["task_manager"], send_email, "user@example.com")

    assert said(capsys.readouterr().out, task_id) == ALL_SAID


async def test_a_logger_in_memory_is_there_for_tests(guide: Guide) -> None:
    await guide.run(
        """
        from fastapi_taskflow import InMemoryLogger, TaskManager

        mem_logger = InMemoryLogger()
        task_manager = TaskManager(loggers=[mem_logger])
        """
    )

    await run(guide["task_manager"], send_email, "user@example.com")

    memory: InMemoryLogger = guide["mem_logger"]
    assert [event.message for event in memory.log_events] == [
        "a detail",
        "Connecting to SMTP server",
        "almost out of quota",
    ]


async def test_a_test_asserts_what_was_logged(guide: Guide) -> None:
    async def charge_payment(amount: float) -> None:
        task_log(f"charging amount={amount}")

    def run_it(manager: TaskManager) -> None:
        asyncio.run(run(manager, charge_payment, 99.0))

    await asyncio.to_thread(
        guide.define,
        """
        def test_charge_payment_logs_amount():
            mem_logger = InMemoryLogger()
            task_manager = TaskManager(loggers=[mem_logger])

            # run the task synchronously in your test setup ...

            messages = [e.message for e in mem_logger.log_events]
            assert any("amount=99.0" in m for m in messages)

            statuses = [e.status.value for e in mem_logger.lifecycle_events]
            assert statuses == ["running", "success"]

            # clear between tests
            mem_logger.clear()
        """,
        {"# run the task synchronously in your test setup ...": "run_it(task_manager)"},
    )
    guide.names.update(InMemoryLogger=InMemoryLogger, TaskManager=TaskManager, run_it=run_it)

    await asyncio.to_thread(guide["test_charge_payment_logs_amount"])


async def test_observers_work_beside_each_other_each_with_its_level(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    await guide.run(
        """
        from fastapi_taskflow import FileLogger, StdoutLogger, TaskManager

        task_manager = TaskManager(
            snapshot_db="tasks.db",
            loggers=[
                FileLogger("tasks.log", log_lifecycle=True),
                StdoutLogger(log_lifecycle=True, min_level="warning"),
            ],
        )
        """
    )

    task_id = await run(guide["task_manager"], send_email, "user@example.com")

    assert said(read(), task_id) == ALL_SAID
    assert said(capsys.readouterr().out, task_id) == ["almost out of quota"]


SHORTHAND = """
    from fastapi_taskflow import TaskManager

    # shorthand
    task_manager = TaskManager(
        snapshot_db="tasks.db",
        log_file="tasks.log",
        log_file_max_bytes=5 * 1024 * 1024,
        log_file_backup_count=3,
        log_file_mode="rotate",
        log_lifecycle=True,
    )
"""
LONG = """
    from fastapi_taskflow import FileLogger, TaskManager

    task_manager = TaskManager(
        snapshot_db="tasks.db",
        loggers=[
            FileLogger(
                "tasks.log",
                max_bytes=5 * 1024 * 1024,
                backup_count=3,
                mode="rotate",
                log_lifecycle=True,
            )
        ],
    )
"""


@pytest.mark.parametrize("block", [SHORTHAND, LONG], ids=["shorthand", "long"])
async def test_the_shorthand_for_a_file_is_the_same_as_its_long_form(
    guide: Guide, block: str
) -> None:
    await guide.run(block)

    task_id = await run(guide["task_manager"], send_email, "user@example.com")

    assert said(read(), task_id) == ALL_SAID
    (observer,) = guide["task_manager"].logger.loggers
    assert (observer.max_bytes, observer.backup_count, observer.mode) == (5242880, 3, "rotate")


async def test_a_file_named_twice_has_each_line_once(guide: Guide) -> None:
    guide.define(LONG)
    manager = TaskManager(loggers=guide["task_manager"].logger.loggers, log_file="tasks.log")

    task_id = await run(manager, send_email, "user@example.com")

    assert said(read(), task_id) == ALL_SAID


async def test_each_further_attempt_is_announced_in_the_file(guide: Guide) -> None:
    manager = TaskManager(log_file="tasks.log", log_lifecycle=True)
    manager.task(retries=1)(reject)

    await run(manager, reject)

    said_after_the_time = [
        re.sub(r"^\S{19} ", "", line.partition("[reject] ")[2]) for line in read().splitlines()
    ]
    assert said_after_the_time == [
        "-- RUNNING",
        "refused by the bank",
        "--- Retry 1 ---",
        "refused by the bank",
        "-- FAILED",
    ]


async def test_an_observer_of_ones_own_sends_events_anywhere(guide: Guide) -> None:
    class Slack:
        def __init__(self) -> None:
            self.log: list[str] = []

        async def connect(self) -> None:
            self.log.append("connect")

        async def disconnect(self) -> None:
            self.log.append("disconnect")

        async def post(self, text: str) -> None:
            self.log.append(text)

    await guide.run(
        """
        from fastapi_taskflow import TaskManager, TaskObserver
        from fastapi_taskflow.loggers.base import LifecycleEvent, LogEvent


        class SlackAlerter(TaskObserver):
            async def on_log(self, event: LogEvent) -> None:
                # Available fields: task_id, func_name, message, level,
                # timestamp, attempt, tags, extra
                if event.level == "error":
                    await slack.post(f"[{event.func_name}] {event.message}")

            async def on_lifecycle(self, event: LifecycleEvent) -> None:
                # Available fields: task_id, func_name, status, timestamp,
                # attempt, retries_used, duration, error, stacktrace, tags
                if event.status.value == "failed":
                    await slack.post(
                        f"Task {event.func_name} failed after "
                        f"{event.retries_used} retries: {event.error}"
                    )

            async def startup(self) -> None:
                # Called when TaskAdmin mounts the app.
                await slack.connect()

            async def close(self) -> None:
                # Called on shutdown.
                await slack.disconnect()


        task_manager = TaskManager(loggers=[SlackAlerter()])
        """,
        slack=Slack(),
    )
    manager: TaskManager = guide["task_manager"]
    manager.task(retries=2)(reject)

    await run(manager, reject)

    assert guide["slack"].log == [
        "connect",
        "[reject] refused by the bank",
        "[reject] refused by the bank",
        "[reject] refused by the bank",
        "Task reject failed after 2 retries: insufficient funds",
        "disconnect",
    ]


async def test_events_have_every_field_of_the_reference() -> None:
    text = (HERE / TEXT).read_text(encoding="utf-8")
    memory = InMemoryLogger()
    manager = TaskManager(loggers=[memory])

    async def work() -> None:
        task_log("half", level="warning", percent=50)
        await asyncio.sleep(0.05)
        raise ValueError("broken")

    task_id = await run(manager, work, tags={"tenant": "a"})

    (line,) = memory.log_events
    began, ended = memory.lifecycle_events
    for kind, event in ((LogEvent, line), (LifecycleEvent, ended)):
        _, _, rest = text.partition(f"\n{kind.__name__}\n")
        table = rest.partition("Field Type Description\n")[2]
        fields = [row.split()[0] for row in table.partition("\n\n")[0].splitlines()]
        assert set(fields) == set(kind.__slots__)
        assert all(hasattr(event, field) for field in fields)
    assert (line.task_id, line.func_name, line.message) == (task_id, "work", "half")
    assert (line.level, line.attempt, line.tags) == ("warning", 0, {"tenant": "a"})
    assert line.extra == {"percent": 50}
    assert (began.status, began.duration, began.error) == (TaskStatus.RUNNING, None, None)
    assert (ended.status, ended.retries_used, ended.tags) == ("failed", 0, {"tenant": "a"})
    assert (ended.error, ended.duration >= 0.05) == ("broken", True)
    assert "ValueError: broken" in ended.stacktrace
    assert began.timestamp <= line.timestamp <= ended.timestamp


async def test_an_observer_that_raises_leaves_the_task_and_the_others_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(TaskObserver):
        async def on_log(self, event: LogEvent) -> None:
            raise RuntimeError("no network")

        async def on_lifecycle(self, event: LifecycleEvent) -> None:
            raise RuntimeError("no network")

    memory = InMemoryLogger()
    manager = TaskManager(loggers=[Broken(), memory])

    with caplog.at_level(logging.ERROR):
        task_id = await run(manager, send_email, "user@example.com")

    assert [event.status.value for event in memory.lifecycle_events] == ["running", "success"]
    assert manager.store.get(task_id).status is TaskStatus.SUCCESS
    assert "Broken.on_log failed" in caplog.text


async def test_observers_that_are_slow_or_hang_hold_up_no_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastapi_taskflow.loggers.delivery.PATIENCE_SECONDS", 0.1)

    class Hanging(TaskObserver):
        async def on_log(self, event: LogEvent) -> None:
            await asyncio.Event().wait()

        on_lifecycle = on_log  # type: ignore[assignment]

    class Slow(TaskObserver):
        async def on_lifecycle(self, event: LifecycleEvent) -> None:
            await asyncio.sleep(0.5)

    class Blocking(TaskObserver):
        own_thread = True
        go_on = threading.Event()

        async def on_log(self, event: LogEvent) -> None:
            self.go_on.wait(60)

    memory = InMemoryLogger()
    manager = TaskManager(loggers=[Hanging(), Slow(), Blocking(), memory])

    await manager.startup()
    began = time.monotonic()
    task_ids = [manager.add_task(send_email, "user@example.com") for _ in range(20)]
    assert await manager.wait(task_ids, timeout=20)
    took = time.monotonic() - began
    await manager.shutdown()
    Blocking.go_on.set()

    # Waiting for the slow one alone would take 20 s.
    assert took < 10
    ended = [event.task_id for event in memory.lifecycle_events if event.status.value == "success"]
    assert sorted(ended) == sorted(task_ids)
