"""Tasks for processes of their own: one that speaks, one that never ends, one that dies."""

import os
import signal
import threading
from pathlib import Path

from fastapi_taskflow.context import get_task_context
from fastapi_taskflow.task_log import task_log


def tell(word: str) -> str | None:
    """Say something in the task's log, and who this is."""
    task_log(word, pid=os.getpid())
    context = get_task_context()
    return context and context.task_id


def hang(path: str) -> None:
    """Write down which process this is, and stay."""
    Path(path).write_text(str(os.getpid()))
    threading.Event().wait()


def die() -> None:
    """Take the process down, as one that ran out of memory is."""
    os.kill(os.getpid(), signal.SIGKILL)
