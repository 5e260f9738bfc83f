"""Options of background tasks that cannot work are refused where they are written."""

import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from taskiq import InMemoryBroker

from fastapi_taskflow import FileLogger, QueueConfig, TaskManager
from fastapi_taskflow.exceptions import (
    LoggerOptionError,
    ManagerOptionError,
    QueueConfigError,
    TaskOptionError,
)
from taskiq_flow.exceptions import (
    ConfigurationError,
    InvalidNameError,
    NotABrokerError,
    TrackingQueryError,
)

NAN, INF = math.nan, math.inf


async def note(what: str) -> None:
    """A task."""


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("retries", [-1, "x", 1.5, True]),
        ("delay", [-1, "a", NAN, INF]),
        ("backoff", [0, -2, None]),
        ("timeout", [0, -1, "x", INF]),
        ("max_delay", [-1, "x"]),
        ("priority", ["high", 1.5, True]),
        ("queue", [5, "a\nb"]),
        ("name", [5, "a\nb"]),
        ("executor", ["gpu", 5]),
        ("jitter", ["yes"]),
        ("eager", [1]),
        ("persist", [None]),
        ("requeue_on_interrupt", ["no"]),
        ("retry_on", ["OSError", (5,), object]),
        ("no_retry_on", ["OSError", (5,), object]),
    ],
)
def test_an_option_of_a_task_that_cannot_work_is_refused_at_decoration(
    option: str, wrong: list[Any]
) -> None:
    manager = TaskManager(snapshot_db="memory://")

    for value in wrong:
        with pytest.raises(TaskOptionError, match=f"Task 'note': {option}="):
            manager.task(**{option: value})(note)
    assert len(manager.registry) == 0


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"tags": "x"}, TaskOptionError),
        ({"tags": {"a": 1}}, TaskOptionError),
        ({"tags": {1: "a"}}, TaskOptionError),
        ({"tags": {"a": "x" * 2000}}, InvalidNameError),
        ({"priority": "high"}, TaskOptionError),
        ({"queue": 5}, TaskOptionError),
        ({"eager": "yes"}, TaskOptionError),
        ({"idempotency_key": 5}, InvalidNameError),
        ({"idempotency_key": ""}, InvalidNameError),
        ({"idempotency_key": "a\0b"}, InvalidNameError),
        ({"idempotency_key": "x" * 2000}, InvalidNameError),
    ],
)
def test_what_a_call_says_of_its_task_is_refused_before_anything_is_stored(
    options: dict[str, Any], kind: type[Exception]
) -> None:
    manager = TaskManager(snapshot_db="memory://")

    with pytest.raises(kind):
        manager.add_task(note, "x", **options)
    assert manager.store.list() == []


@pytest.mark.parametrize("func", [None, 5, "note"])
def test_what_cannot_be_called_is_no_task(func: Any) -> None:
    manager = TaskManager(snapshot_db="memory://")

    with pytest.raises(TaskOptionError, match="it has to be a function, not what one returned"):
        manager.add_task(func)
    with pytest.raises(TaskOptionError, match="it has to be a function"):
        manager.task()(func)


@pytest.mark.parametrize("wrong", [{"run_key": ""}, {"run_key": "a\x1fb"}, {"run_at": 5}])
async def test_what_is_put_off_needs_a_time_and_a_key(wrong: dict[str, Any]) -> None:
    given = {"run_key": "a", "run_at": datetime.now(UTC), **wrong}
    async with TaskManager(snapshot_db="memory://") as manager:
        with pytest.raises((TaskOptionError, InvalidNameError)):
            await manager.schedule_once(note, "x", **given)
        assert await manager.list_scheduled() == []


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-12))])
async def test_a_time_after_the_year_9999_is_refused_and_no_list_breaks(zone: timezone) -> None:
    """As seconds since 1970 the last microseconds of that year are the next one."""
    never = datetime.max.replace(tzinfo=zone)
    async with TaskManager(snapshot_db="memory://") as manager:
        with pytest.raises(TaskOptionError, match=r"run_at=.* in the years 1 to 9999 of UTC"):
            await manager.schedule_once(note, "x", run_at=never, run_key="never")
        assert await manager.list_scheduled() == []


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("max_concurrent_tasks", [0, -1, "x", True]),
        ("max_sync_threads", [0, -1]),
        ("max_process_workers", [0, 1.5]),
        ("shutdown_timeout", [-1, "x", None, NAN]),
        ("process_shutdown_timeout", [-1, INF]),
    ],
)
def test_an_option_of_a_manager_that_cannot_work_is_refused(option: str, wrong: list[Any]) -> None:
    for value in wrong:
        with pytest.raises(ManagerOptionError, match=f"{option}="):
            TaskManager(snapshot_db="memory://", **{option: value})


@pytest.mark.parametrize(
    "queues", [{"a": 5}, {"": QueueConfig()}, {5: QueueConfig()}, {"a": QueueConfig(True)}]
)
def test_queues_need_names_and_bounds_that_can_be(queues: Any) -> None:
    with pytest.raises((QueueConfigError, InvalidNameError)):
        TaskManager(snapshot_db="memory://", queues=queues)


def test_the_same_options_are_refused_on_a_broker() -> None:
    manager = TaskManager(broker=InMemoryBroker())

    with pytest.raises(TaskOptionError):
        manager.task(priority="high")(note)  # type: ignore[arg-type]


@pytest.mark.parametrize("broker", [5, "redis://localhost", InMemoryBroker])
def test_a_manager_says_what_is_no_broker(broker: Any) -> None:
    with pytest.raises(NotABrokerError, match="hand over the broker"):
        TaskManager(broker=broker)


@pytest.mark.parametrize("days", ["7", 0, -1, NAN, INF, True, 10**30, []])
def test_tasks_are_kept_for_a_number_of_days(days: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"retention_days=.* must be above 0"):
        TaskManager(snapshot_db="memory://", retention_days=days)


async def test_a_question_about_tasks_that_makes_no_sense_is_refused() -> None:
    async with TaskManager(snapshot_db="memory://") as manager:
        for seconds in ("5", NAN, [], True):
            with pytest.raises(ManagerOptionError, match=r"timeout=.* must be a number"):
                await manager.wait(["none"], timeout=seconds)  # type: ignore[arg-type]
        with pytest.raises(TrackingQueryError, match="before='tomorrow' is no datetime"):
            await manager.list_scheduled(before="tomorrow")  # type: ignore[arg-type]
        with pytest.raises(TrackingQueryError, match="status='done' is not one of pending, "):
            manager.store.list(status="done")
        for limit in ("5", 0, -1, 1.5, None, True):
            with pytest.raises(TrackingQueryError, match=r"limit=.* must be a whole number"):
                manager.store.list(limit=limit)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["5", -1, 1.5, NAN, None, True])
def test_a_log_file_needs_sizes_that_can_be(tmp_path: Path, wrong: Any) -> None:
    for option in ("max_bytes", "backup_count"):
        with pytest.raises(LoggerOptionError, match=option):
            FileLogger(tmp_path / "tasks.log", **{option: wrong})
