"""Puts the REST routes and the dashboard of tasks into an application."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from fastapi_taskflow.api import Desk, make_router
from fastapi_taskflow.auth import Auth, security_of
from fastapi_taskflow.exceptions import AdminPathError
from fastapi_taskflow.pages import DashboardMount, page_routes
from fastapi_taskflow.settings import manager_config

if TYPE_CHECKING:
    from fastapi_taskflow.manager import TaskManager

logger = logging.getLogger("fastapi_taskflow.admin")


class TaskAdmin:
    """Adds the routes of a manager's tasks under ``path``, and the dashboard at ``path/dashboard``.

    Nobody gets in without a login: with ``auth=None`` a token is made and printed at the start
    (unless the settings name users or keys). ``auth`` takes ``(name, password)``, a list of those
    (a third part is the role: ``viewer``, ``operator`` or ``admin``), a `TaskAuthBackend`, or a
    `taskiq_flow.security.Security`; ``auth=False`` lets everybody do everything. ``token_expiry``
    is how many seconds a session lasts, ``secret_key`` what sessions are signed with: without one
    they end with the process, and processes do not know each other's.

    The manager starts and stops with the application, also with one that has its own ``lifespan``.
    ``poll_interval`` is accepted without effect: the dashboard is told of changes.

    Raises:
        AdminPathError: The path is not like ``/tasks``.
        AuthOptionError: ``auth`` says not who may come in.
    """

    def __init__(  # noqa: PLR0913 - the documented parameters
        self,
        app: FastAPI,
        task_manager: TaskManager,
        path: str = "/tasks",
        display_func_args: bool = False,
        auto_install: bool = False,
        auth: Auth = None,
        token_expiry: int = 86400,
        secret_key: str | None = None,
        poll_interval: float = 30.0,  # noqa: ARG002 - see above
        title: str = "fastapi-taskflow",
        retention_days: float | None = None,
    ) -> None:
        self.path = _checked(path)
        self.task_manager, self.title = task_manager, title
        self.security = security_of(auth, token_expiry=token_expiry, secret_key=secret_key)
        self.desk = Desk(task_manager, display_func_args)
        if retention_days is not None:
            store = task_manager.run_store
            seconds = manager_config(retention_days).retention_seconds
            store.options = replace(store.options, retention_seconds=seconds)
        if auto_install:
            task_manager.install(app)
        task_manager.init_app(app)
        self._add_routes(app)
        self._live_with(app)

    def _add_routes(self, app: FastAPI) -> None:
        # Before `/{task_id}`, which would take these for ids.
        for route in page_routes(self.path, self.security):
            app.router.routes.append(route)
        app.mount(f"{self.path}/dashboard", DashboardMount(self.desk, self.security, self.title))
        app.include_router(make_router(self.desk, self.path, self.security))

    def _live_with(self, app: FastAPI) -> None:
        inner: Any = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(owner: Any) -> AsyncGenerator[Any]:
            async with inner(owner) as state:
                self._say_token()
                try:
                    yield state
                finally:
                    await self.desk.close()

        app.router.lifespan_context = lifespan  # pyright: ignore[reportAttributeAccessIssue]

    def _say_token(self) -> None:
        if self.security.is_token_made:
            logger.warning(
                "The dashboard of tasks is at %s/dashboard?token=%s - set auth= to log in by name.",
                self.path,
                self.security.token,
            )


def _checked(path: str) -> str:
    trimmed = path.rstrip("/")
    if not trimmed.startswith("/") or "//" in trimmed or "{" in trimmed:
        raise AdminPathError(path)
    return trimmed
