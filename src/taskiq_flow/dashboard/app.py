"""Puts the dashboard together: routes, security, headers, and what is said when things fail."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskiq_flow.dashboard.access import Access
from taskiq_flow.dashboard.actions import (
    act_on_run,
    act_on_runs,
    act_on_schedule,
    discard,
    next_page,
    replay,
)
from taskiq_flow.dashboard.export import export_runs
from taskiq_flow.dashboard.live import live_answer
from taskiq_flow.dashboard.pages.fleet import AUDIT, MORE, QUEUES, SCHEDULES, TASKS, WORKERS
from taskiq_flow.dashboard.pages.letters import LETTERS
from taskiq_flow.dashboard.pages.overview import OVERVIEW
from taskiq_flow.dashboard.pages.run import RUN, run_id_of
from taskiq_flow.dashboard.pages.runs import RUNS, found_by_id
from taskiq_flow.dashboard.pictures.text import value_pieces
from taskiq_flow.dashboard.rendering import STATIC, make_environment, rendered
from taskiq_flow.dashboard.views import Desk, Nav, Page, View
from taskiq_flow.dashboard.words import one_line
from taskiq_flow.exceptions import (
    AmbiguousRunError,
    NotAllowedError,
    NotAuthenticatedError,
    RunNotFoundError,
    StoreError,
    TaskiqFlowError,
    TooManyAttemptsError,
)
from taskiq_flow.operations import Operations
from taskiq_flow.security import Role, Security, SecurityMiddleware, requires

RUN_ACTIONS = ("cancel", "retry", "resume", "fork", "event")

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

Handler = Callable[[View], Awaitable[Response]]


def create_app(
    operations: Operations,
    *,
    security: Security,
    title: str = "Taskiq-Flow",
    base_path: str = "",
) -> Starlette:
    """Make the dashboard, to be served as it is or mounted in another app under any path.

    ``base_path`` is what a proxy in front takes off the path of its requests, such as ``/flow``.
    The operations stay open; whoever opened them closes them.
    """
    desk = Desk(
        operations=operations,
        access=Access(security),
        environment=make_environment(),
        title=title,
        base_path=base_path.rstrip("/"),
        static_version=_version_of(STATIC),
    )

    def page(path: str, shown: Page, *, role: Role = Role.VIEWER) -> Route:
        return _route(desk, path, shown.answer, role=role)

    routes = [
        page("/", OVERVIEW),
        _route(desk, "/runs", _runs),
        _route(desk, "/runs/bulk", act_on_runs, method="POST", role=Role.OPERATOR),
        _route(desk, "/runs.csv", export_runs),
        page("/runs/{run_id}", RUN),
        _route(desk, "/runs/{run_id}/live", _live_of_run),
        _route(desk, "/runs/{run_id}/value", _value),
        *(
            _route(desk, f"/runs/{{run_id}}/{name}", _acting(name), method="POST",
                   role=Role.OPERATOR)
            for name in RUN_ACTIONS
        ),
        _route(desk, "/live", _live),
        page("/tasks", TASKS),
        page("/queues", QUEUES),
        page("/schedules", SCHEDULES),
        _route(desk, "/schedules/{schedule_id}", act_on_schedule, method="POST",
               role=Role.OPERATOR),
        page("/dead-letters", LETTERS),
        _route(desk, "/dead-letters/replay", replay, method="POST", role=Role.OPERATOR),
        _route(desk, "/dead-letters/discard", discard, method="POST", role=Role.ADMIN),
        page("/workers", WORKERS),
        page("/audit", AUDIT, role=Role.ADMIN),
        page("/more", MORE),
        Route("/login", _Endpoint(desk, _login), methods=["GET", "POST"], name="login"),
        _route(desk, "/logout", _logout, method="POST"),
        Mount("/static", _Static(directory=STATIC), name="static"),
    ]  # fmt: skip
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(_Headers),
            Middleware(SecurityMiddleware, security, public=["/static/*"], login_path="/login"),
        ],
        exception_handlers={
            TaskiqFlowError: _failures(desk),
            HTTPException: _refusals(desk),
        },
    )


def _route(
    desk: Desk,
    path: str,
    handler: Handler,
    *,
    method: str = "GET",
    role: Role = Role.VIEWER,
) -> Route:
    endpoint = _Endpoint(desk, handler, requires(role))
    return Route(path, endpoint, methods=[method], name=f"{method} {path}")


class _Endpoint:
    """Makes a view of a request, once it is known that whoever asks may."""

    def __init__(self, desk: Desk, handler: Handler, guard: requires | None = None) -> None:
        self._desk, self._handler, self._guard = desk, handler, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        if self._guard is not None:
            self._guard.check(request)
        response = await self._handler(View(self._desk, request))
        response.headers.setdefault("cache-control", "no-store")
        await response(scope, receive, send)


async def _runs(view: View) -> Response:
    found = await found_by_id(view)
    return RedirectResponse(found, 303) if found else await RUNS.answer(view)


def _acting(action: str) -> Handler:
    async def act(view: View) -> Response:
        return await act_on_run(view, action)

    return act


async def _live(view: View) -> Response:
    return live_answer(view.operations, None, _last_known(view))


async def _live_of_run(view: View) -> Response:
    run_id = await run_id_of(view)
    return live_answer(view.operations, run_id, _last_known(view))


def _last_known(view: View) -> str | None:
    """How far a page knows the feed: by its last message, or as it was when the page was made."""
    return view.request.headers.get("last-event-id") or view.params.get("after")


async def _value(view: View) -> Response:
    """More of one value than a page shows, as text."""
    run_id = await run_id_of(view)
    preview = await view.operations.output(run_id, view.params.get("name", "result"))
    return PlainTextResponse("".join(text for _, text in value_pieces(preview)))


async def _login(view: View) -> Response:
    security = view.desk.access.security
    facts = {"view": view, "error": "", "security": security, "next": view.params.get("next", "")}
    status = 200
    if view.request.method == "POST":
        form = await view.request.form()
        given = {name: str(form.get(name, "")) for name in ("name", "password", "token")}
        facts["next"] = str(form.get("next", ""))
        try:
            login = await security.login(view.request.scope, **given)
        except (NotAuthenticatedError, NotAllowedError) as error:
            facts["error"], status = str(error), 401
        except TooManyAttemptsError as error:
            facts["error"], status = str(error), 429
        else:
            response = RedirectResponse(next_page(view.base, facts["next"]), 303)
            response.raw_headers.append(login.cookie)
            return response
    return HTMLResponse(rendered(view.desk.environment, "login.html", facts), status)


async def _logout(view: View) -> Response:
    response = RedirectResponse(view.url("login"), 303)
    response.raw_headers.append(await view.desk.access.security.logout(view.request.scope))
    return response


# --- what is said when things fail -----------------------------------------------------------


def _failures(desk: Desk) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, StoreError):
            return _plain_page(desk, request, 503, "The store does not answer", str(error))
        if isinstance(error, RunNotFoundError):
            return _plain_page(desk, request, 404, "There is no such run", str(error))
        if isinstance(error, AmbiguousRunError):
            return _plain_page(desk, request, 409, "Several runs end like this", str(error))
        return _plain_page(desk, request, 400, "This cannot be shown", str(error))

    return answer


def _refusals(desk: Desk) -> Callable[[Request, Exception], Awaitable[Response]]:
    titles = {403: "You may not do this", 404: "There is no such page", 405: "Not like this"}

    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        title = titles.get(error.status_code, "This cannot be shown")
        return _plain_page(desk, request, error.status_code, title, error.detail)

    return answer


def _plain_page(desk: Desk, request: Request, status: int, title: str, text: str) -> Response:
    """A page that needs no store: what happened, and a way back. Fragments get the text alone."""
    if "region" in request.query_params:
        return PlainTextResponse(one_line(text, 500), status, {"cache-control": "no-store"})
    context = {
        "view": View(desk, request),
        "heading": title,
        "text": one_line(text, 1000),
        "status": status,
        "section": "",
        "live": None,
        "nav": Nav(0, 0, 0),
        "flash": None,
        "away": status == 503,
        "crumbs": (),
        "short_heading": "",
        "is_soft": False,
        "regions": {"side": ""},
    }
    html = rendered(desk.environment, "pages/failed.html", context)
    return HTMLResponse(html, status, {"cache-control": "no-store"})


# --- headers and files -----------------------------------------------------------------------


class _Headers:
    """Puts the policy on every answer, also on those of the security before it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message.get("headers", ())}
                extra = [
                    (name.encode(), value.encode())
                    for name, value in _HEADERS.items()
                    if name.encode() not in known
                ]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class _Static(StaticFiles):
    """Files whose address has their version: they are kept as long as a browser likes."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code == 200:
            response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def _version_of(directory: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(directory.iterdir()):
        found.update(file.read_bytes())
    return found.hexdigest()[:12]
