"""Lets ``bt: BackgroundTasks`` receive managed tasks, in the applications that ask for it."""

from __future__ import annotations

from typing import Any

import fastapi.dependencies.utils
from fastapi import BackgroundTasks

from fastapi_taskflow.requests import RequestTasks, current
from fastapi_taskflow.tasks import ManagedBackgroundTasks


class InjectedBackgroundTasks(BackgroundTasks):
    """Makes what belongs to the request: managed tasks, or FastAPI's own."""

    def __new__(cls, *args: Any, **kwargs: Any) -> BackgroundTasks:  # type: ignore[misc]
        tasks = _installed(current.get())
        if tasks is None or args or kwargs:
            return BackgroundTasks(*args, **kwargs)
        return ManagedBackgroundTasks(tasks.manager)


def _installed(tasks: RequestTasks | None) -> RequestTasks | None:
    while tasks is not None and not tasks.manager.is_installed:
        tasks = tasks.outer
    return tasks


def install_injection() -> None:
    """Let FastAPI ask here for background tasks.

    FastAPI makes them by a name of its module, and has no other door. What stands there from now
    on looks at the request that is handled: several applications each get their own manager's, and
    applications without one get FastAPI's. May be called again.
    """
    fastapi.dependencies.utils.BackgroundTasks = InjectedBackgroundTasks  # type: ignore[misc]
