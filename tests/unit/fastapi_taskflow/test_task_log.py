"""What a task says, and what it is told of itself."""

import asyncio
import logging
from datetime import UTC, datetime

import pytest

from fastapi_taskflow.context import RunningTask, get_task_context, running
from fastapi_taskflow.exceptions import LoggerOptionError
from fastapi_taskflow.loggers import LogEvent
from fastapi_taskflow.models import TaskContext
from fastapi_taskflow.task_log import task_log

HERE = TaskContext("id-1", "send", attempt=1, tags={"tenant": "a"})


def test_outside_of_a_task_a_line_goes_to_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "fastapi_taskflow.task"):
        task_log("100% alone", level="warning", user=3)

    (record,) = caplog.records
    assert (record.name, record.levelname) == ("fastapi_taskflow.task", "WARNING")
    assert record.getMessage() == "100% alone"
    assert record.task_extra == {"user": 3}
    assert get_task_context() is None


def test_in_a_task_a_line_becomes_an_event_with_all_that_is_known() -> None:
    told: list[LogEvent] = []
    before = datetime.now(UTC)

    with running(RunningTask(HERE, told.append)):
        task_log("hello", level="WARN", user=3)
        assert get_task_context() == HERE

    (event,) = told
    assert before <= event.timestamp <= datetime.now(UTC)
    assert (event.task_id, event.func_name, event.attempt) == ("id-1", "send", 1)
    assert (event.message, event.level) == ("hello", "warning")
    assert (event.tags, event.extra) == ({"tenant": "a"}, {"user": 3})
    assert get_task_context() is None


async def test_a_task_is_known_in_the_threads_that_it_hands_work_to() -> None:
    with running(RunningTask(HERE, lambda event: None)):
        assert await asyncio.to_thread(get_task_context) == HERE


def test_a_level_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(LoggerOptionError, match="level='loud' is not known here; use one of"):
        task_log("x", level="loud")
