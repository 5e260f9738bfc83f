"""What a task says of itself."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from fastapi_taskflow.context import running_task
from fastapi_taskflow.loggers.base import LogEvent, LogLevel

logger = logging.getLogger("fastapi_taskflow.task")


def task_log(message: str, *, level: str = "info", **extra: Any) -> None:
    """Add a line to the record of the task that runs here, and tell the observers.

    Works wherever `get_task_context` knows the task. Outside of a task the line goes to the logger
    ``fastapi_taskflow.task``. ``extra`` goes to the observers, and is not stored.

    Raises:
        LoggerOptionError: There is no such level.
    """
    known = LogLevel.of(level)
    task = running_task()
    if task is None:
        logger.log(known.rank, "%s", message, extra={"task_extra": extra})
        return
    context = task.context
    task.tell(
        LogEvent(
            task_id=context.task_id,
            func_name=context.func_name,
            message=str(message),
            level=known.value,
            timestamp=datetime.now(UTC),
            attempt=context.attempt,
            tags=dict(context.tags),
            extra=extra,
        )
    )
