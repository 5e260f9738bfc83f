"""What browsers are served below the routes of tasks: the dashboard, and the way in and out."""

from __future__ import annotations

import asyncio
import json
import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from taskiq_flow.exceptions import (
    MissingExtraError,
    NotAllowedError,
    NotAuthenticatedError,
    StoreError,
    TooManyAttemptsError,
)
from taskiq_flow.security import Login, Security, SecurityMiddleware

if TYPE_CHECKING:
    from fastapi_taskflow.api import Desk
    from taskiq_flow.security.requests import App, Receive, Scope, Send

logger = logging.getLogger("fastapi_taskflow.admin")

BODY_BYTES = 16 * 1024


class DashboardMount:
    """The dashboard over a manager's store, made in the event loop that first asks for it."""

    def __init__(self, desk: Desk, security: Security, title: str) -> None:
        self._desk, self._security, self._title = desk, security, title
        self._made: tuple[asyncio.AbstractEventLoop, App] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        if self._made is None or self._made[0] is not loop:
            try:
                self._made = (loop, await self._make())
            except StoreError as error:
                # Nobody has been asked yet who they are, so the answer names no address.
                logger.warning("The dashboard cannot be opened: %s", error)
                away = JSONResponse({"detail": "The store of the tasks does not answer."}, 503)
                await away(scope, receive, send)
                return
        await self._made[1](scope, receive, send)

    async def _make(self) -> App:
        try:
            # An extra of its own: the routes work without it.
            create_app = import_module("taskiq_flow.dashboard").create_app
        except MissingExtraError as error:
            return JSONResponse({"detail": str(error)}, 501)
        operations = await self._desk.operations()
        return create_app(operations, security=self._security, title=self._title)


def page_routes(path: str, security: Security) -> list[BaseRoute]:
    """The documented addresses of logging in and out, and of what the dashboard has elsewhere."""

    async def to_dashboard(request: Request) -> Response:
        return RedirectResponse(_address(request, f"{path}/dashboard/"), 307)

    async def to_stream(request: Request) -> Response:
        return RedirectResponse(_address(request, f"{path}/dashboard/live"), 307)

    async def log_in(request: Request) -> Response:
        try:
            given = await _given(request)
            login = await security.login(
                _below(request, path),
                name=given.get("username", ""),
                password=given.get("password", ""),
                token=given.get("token", ""),
            )
        except ValueError as error:
            return _refused(400, str(error))
        except NotAuthenticatedError as error:
            return _refused(401, str(error))
        except NotAllowedError as error:
            return _refused(403, str(error))
        except TooManyAttemptsError as error:
            return _refused(429, str(error), {"retry-after": f"{error.retry_after_seconds:.0f}"})
        identity = login.identity
        facts = {"name": identity.name, "role": identity.role.value}
        answer = JSONResponse({**facts, "csrf_token": await _csrf_token(security, login)})
        answer.raw_headers.append(login.cookie)
        return answer

    async def log_out(request: Request) -> Response:
        cookie = await security.logout(_below(request, path))
        answer = Response(status_code=204)
        answer.raw_headers.append(cookie)
        return answer

    leave = Route(f"{path}/auth/logout", log_out, methods=["POST"], include_in_schema=False)
    leave.app = SecurityMiddleware(leave.app, security)
    return [
        Route(f"{path}/dashboard", to_dashboard, methods=["GET"], include_in_schema=False),
        Route(f"{path}/dashboard/stream", to_stream, methods=["GET"], include_in_schema=False),
        Route(f"{path}/auth/login", to_dashboard, methods=["GET"], include_in_schema=False),
        # Leaving changes something, so a link does not do it: the page has a button.
        Route(f"{path}/auth/logout", to_dashboard, methods=["GET"], include_in_schema=False),
        Route(f"{path}/auth/login", log_in, methods=["POST"], include_in_schema=False),
        leave,
    ]


async def _csrf_token(security: Security, login: Login) -> str:
    """What requests with this cookie carry as ``X-CSRF-Token`` when they change something."""
    value = login.cookie[1].decode("latin-1").partition("=")[2].partition(";")[0]
    session = await security.sessions.read(value)
    return "" if session is None else security.sessions.csrf_token(session.session_id)


def _address(request: Request, path: str) -> str:
    root = str(request.scope.get("root_path", "")).rstrip("/")
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{root}{path}{query}"


def _below(request: Request, path: str) -> Scope:
    """The scope as if the app were mounted at a path: there the cookie is to hold."""
    root = str(request.scope.get("root_path", "")).rstrip("/")
    return {**request.scope, "root_path": f"{root}{path}"}


async def _given(request: Request) -> dict[str, str]:
    """The fields of a form or of a JSON object.

    Raises:
        ValueError: It is neither, or too long.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES:
            raise ValueError("this is too long for a login")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        read: Any = json.loads(bytes(body))
        if not isinstance(read, dict):
            raise ValueError("a login is an object with username and password, or token")
        fields = cast("dict[str, Any]", read)
        return {name: value for name, value in fields.items() if isinstance(value, str)}
    return {name: values[0] for name, values in parse_qs(bytes(body).decode()).items()}


def _refused(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)
