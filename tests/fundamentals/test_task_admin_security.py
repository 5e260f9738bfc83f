"""Nothing of the tasks' routes and pages answers without the permission that it takes."""

import logging
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route

from fastapi_taskflow import TaskAdmin, TaskAuthBackend, TaskManager
from fastapi_taskflow.exceptions import AdminPathError, AuthOptionError
from taskiq_flow.dashboard import create_app
from taskiq_flow.exceptions import SecurityOptionError
from taskiq_flow.security import Role, Security, hash_password

PASSWORD = "a long password"
HASHED = hash_password(PASSWORD)
USERS = [("vera", HASHED, "viewer"), ("ada", HASHED)]
KEYS = {f"key-of-{role}": {"role": role, "name": role} for role in Role}

VIEWER, OPERATOR, ADMIN = Role.VIEWER, Role.OPERATOR, Role.ADMIN
ROUTES = {
    ("GET", "/tasks"): VIEWER,
    ("GET", "/tasks/metrics"): VIEWER,
    ("GET", "/tasks/queues"): VIEWER,
    ("PATCH", "/tasks/queues/{name}"): ADMIN,
    ("GET", "/tasks/audit"): ADMIN,
    ("POST", "/tasks/bulk-retry"): OPERATOR,
    ("POST", "/tasks/retry-failed"): OPERATOR,
    ("DELETE", "/tasks/history"): ADMIN,
    ("GET", "/tasks/{task_id}"): VIEWER,
    ("POST", "/tasks/{task_id}/retry"): OPERATOR,
    ("POST", "/tasks/{task_id}/cancel"): OPERATOR,
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")


OPEN = {
    ("GET", "/tasks/dashboard"): "leads to the dashboard, which asks",
    ("GET", "/tasks/dashboard/stream"): "leads to the stream, which asks",
    ("GET", "/tasks/auth/login"): "leads to the dashboard",
    ("GET", "/tasks/auth/logout"): "leads to the dashboard",
    ("POST", "/tasks/auth/login"): "the way in",
    ("POST", "/tasks/auth/logout"): "ends the session that it is asked with",
    ("*", "/tasks/dashboard"): "the dashboard, whose pages are looked at below",
}
"""What stands beside the routes of tasks, and says nothing of any task."""


async def nothing() -> None:
    """A task."""


@asynccontextmanager
async def served(auth: Any, **options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, TaskAdmin]]:
    manager = TaskManager()
    app = FastAPI()

    @app.get("/open")
    async def anybody() -> str:
        return "open"

    admin = TaskAdmin(app, manager, auth=auth, **options)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    async with app.router.lifespan_context(app), client:
        yield client, admin


async def log_in(client: httpx.AsyncClient, name: str) -> str:
    """Begin a session; returns what state changes carry along."""
    answer = await client.post("/tasks/auth/login", data={"username": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return answer.json()["csrf_token"]


def routes_in(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    """The method and path of all that answers, shown in OpenAPI or not."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:  # FastAPI's own, of an included router
            yield from routes_in(inner.routes)
        elif isinstance(route, Route | APIRoute):
            yield from ((method, route.path) for method in route.methods or {"*"})
        else:
            yield "*", getattr(route, "path", repr(route))


def test_every_route_of_the_tasks_is_on_the_list() -> None:
    app = FastAPI(openapi_url=None)
    TaskAdmin(app, TaskManager(snapshot_db="memory://"), auth=USERS)

    found = {(method, path) for method, path in routes_in(app.routes) if method != "HEAD"}

    assert found == set(ROUTES) | set(OPEN)


async def test_all_of_the_dashboard_but_its_style_is_among_its_pages() -> None:
    async with served(USERS) as (_, admin):
        dashboard = create_app(await admin.desk.operations(), security=admin.security)

    others = [route for route in dashboard.routes if not isinstance(route, Route)]
    assert [getattr(route, "path", route) for route in others] == ["/static"]


async def test_every_route_and_method_answers_those_only_who_may() -> None:
    async with served(Security(api_keys=KEYS)) as (client, _):
        for path in sorted({path for _, path in ROUTES}):
            address = path.format(name="default", task_id="nobody")
            for method in METHODS:
                needed = ROUTES.get((method, path))
                for role in (None, *Role):
                    headers = {} if role is None else {"x-api-key": f"key-of-{role}"}
                    status = (await client.request(method, address, headers=headers)).status_code

                    where = f"{method} {path} as {role}"
                    if needed is None:
                        # Some paths are also ids of the route that takes any.
                        assert status in {401, 403, 404, 405}, where
                    elif role is None:
                        assert status == 401, where
                    elif role.allows(needed):
                        assert status not in {401, 403, 500}, where
                    else:
                        assert status == 403, where


async def test_no_page_or_stream_of_the_dashboard_opens_without_a_login() -> None:
    async with served(Security(api_keys=KEYS)) as (client, admin):
        dashboard = create_app(await admin.desk.operations(), security=admin.security)
        pages = [route for route in dashboard.routes if isinstance(route, Route)]
        assert len(pages) > 10

        for page in pages:
            path = re.sub(r"\{\w+\}", "nobody", page.path)
            for method in METHODS:
                answer = await client.request(method, f"/tasks/dashboard{path}")
                assert answer.status_code in ({200, 401, 405} if path == "/login" else {401}), path
            if page.methods == {"POST"} and path != "/logout":
                viewer = {"x-api-key": "key-of-viewer"}
                answer = await client.post(f"/tasks/dashboard{path}", headers=viewer)
                assert answer.status_code == 403, path


async def test_the_stream_is_where_it_is_documented_and_as_closed_as_the_rest() -> None:
    async with served(Security(api_keys=KEYS)) as (client, _):
        stream = await client.get("/tasks/dashboard/stream")
        assert stream.headers["location"] == "/tasks/dashboard/live"
        assert (await client.get(stream.headers["location"])).status_code == 401


async def test_other_routes_of_the_application_are_as_open_as_before() -> None:
    async with served(USERS) as (client, _):
        assert (await client.get("/open")).json() == "open"


async def test_a_session_holds_for_routes_and_dashboard_and_ends_everywhere() -> None:
    async with served(USERS) as (client, _):
        csrf_token = await log_in(client, "ada")
        kept = dict(client.cookies)
        assert (await client.get("/tasks")).status_code == 200
        assert (await client.get("/tasks/dashboard/")).status_code == 200

        without_token = await client.post("/tasks/auth/logout")
        left = await client.post("/tasks/auth/logout", headers={"x-csrf-token": csrf_token})
        client.cookies.update(kept)

        assert (without_token.status_code, left.status_code) == (403, 204)
        assert (await client.get("/tasks")).status_code == 401
        assert (await client.get("/tasks/dashboard/")).status_code == 401


async def test_a_link_changes_nothing_not_even_who_is_logged_in() -> None:
    async with served(USERS) as (client, _):
        await log_in(client, "ada")

        answer = await client.get("/tasks/auth/logout")

        assert answer.headers["location"] == "/tasks/dashboard/"
        assert (await client.get("/tasks")).status_code == 200


async def test_a_page_of_another_site_cannot_change_anything() -> None:
    async with served(USERS) as (client, _):
        csrf_token = await log_in(client, "ada")

        for headers in (
            {},
            {"x-csrf-token": "made up"},
            {"x-csrf-token": csrf_token, "origin": "http://evil.example"},
            {"x-csrf-token": csrf_token, "sec-fetch-site": "cross-site"},
        ):
            answer = await client.post("/tasks/retry-failed", headers=headers)
            assert answer.status_code == 403, headers

        ours = {"x-csrf-token": csrf_token, "origin": "http://test"}
        assert (await client.post("/tasks/retry-failed", headers=ours)).status_code == 200


async def test_security_that_is_turned_off_still_refuses_other_sites() -> None:
    async with served(auth=False) as (client, _):
        evil = {"origin": "http://evil.example"}

        assert (await client.post("/tasks/retry-failed")).status_code == 200
        assert (await client.post("/tasks/retry-failed", headers=evil)).status_code == 403


async def test_without_any_option_a_token_is_printed_and_lets_one_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "fastapi_taskflow.admin"):
        async with served(auth=None) as (client, _):
            printed = re.search(r"/tasks/dashboard\?token=(\S+)", caplog.text)
            assert printed is not None
            bearer = {"authorization": f"Bearer {printed[1]}"}

            assert (await client.get("/tasks")).status_code == 401
            assert (await client.get("/tasks", headers=bearer)).status_code == 200
            page = await client.get(printed[0], follow_redirects=True)
            assert page.status_code == 200
            assert "token=" not in str(page.url)


async def test_a_wrong_password_is_refused_whoever_it_is_of() -> None:
    tries = [("ada", "wrong"), ("ada", ""), ("ada", "pässwörd"), ("nobody", PASSWORD)]
    async with served(USERS) as (client, _):
        for name, password in [*tries, ("ada", "x" * 5000)]:
            given = {"username": name, "password": password}
            answer = await client.post("/tasks/auth/login", json=given)

            assert answer.status_code == 401, (name, password)
            assert "set-cookie" not in answer.headers


async def test_guessing_is_slowed_down() -> None:
    async with served(auth=None) as (client, _):
        wrong = {"token": "wrong"}
        statuses = [
            (await client.post("/tasks/auth/login", json=wrong)).status_code for _ in range(12)
        ]

    assert statuses[0] == 401
    assert statuses[-1] == 429


async def test_a_login_that_is_none_is_refused() -> None:
    headers = {"content-type": "application/json"}
    async with served(USERS) as (client, _):
        for body in (b"[]", b"{", b"\xff=1", b"x" * 20_000):
            answer = await client.post("/tasks/auth/login", content=body, headers=headers)
            assert answer.status_code == 400, body[:9]


async def test_a_backend_of_ones_own_decides_who_comes_in() -> None:
    class Directory(TaskAuthBackend):
        def authenticate_user(self, username: str, password: str) -> bool:
            return (username, password) == ("zoë", "pässwörd")

        def role_of(self, username: str) -> str:
            return "viewer"

    async with served(Directory()) as (client, _):
        wrong = {"username": "zoë", "password": PASSWORD}
        right = {"username": "zoë", "password": "pässwörd"}

        assert (await client.post("/tasks/auth/login", json=wrong)).status_code == 401
        session = await client.post("/tasks/auth/login", json=right)

        assert session.json()["role"] == "viewer"
        assert (await client.get("/tasks")).status_code == 200
        csrf = {"x-csrf-token": session.json()["csrf_token"]}
        assert (await client.post("/tasks/retry-failed", headers=csrf)).status_code == 403


async def test_who_has_a_role_that_is_none_is_not_let_in_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    role = "operator"

    class Directory(TaskAuthBackend):
        def authenticate_user(self, username: str, password: str) -> bool:
            return (username, password) == ("ada", PASSWORD)

        def role_of(self, username: str) -> str:
            return role

    async with served(Directory()) as (client, _):
        await log_in(client, "ada")
        assert (await client.get("/tasks")).status_code == 200
        role = "boss"
        before = (await client.get("/tasks")).status_code
        again = await client.post(
            "/tasks/auth/login", json={"username": "ada", "password": PASSWORD}
        )

    assert (before, again.status_code) == (401, 401)
    assert "role_of('ada')='boss' must be one of viewer, operator, admin" in caplog.text


async def test_sessions_of_one_key_hold_in_another_process() -> None:
    options = {"secret_key": "the same in all processes", "token_expiry": 3600}
    async with served(("ada", PASSWORD), **options) as (first, _):
        await log_in(first, "ada")
        cookies = dict(first.cookies)
    async with served(("ada", PASSWORD), **options) as (second, _):
        second.cookies.update(cookies)
        assert (await second.get("/tasks")).status_code == 200
    async with served(("ada", "another password"), **options) as (third, _):
        third.cookies.update(cookies)
        assert (await third.get("/tasks")).status_code == 401


async def test_who_may_see_some_tasks_sees_no_others() -> None:
    key = {"mine-only": {"role": "admin", "pipelines": ["mine*"]}}
    async with served(Security(api_keys=key)) as (client, admin):
        client.headers["x-api-key"] = "mine-only"
        manager = admin.task_manager

        @manager.task(name="mine-1")
        async def mine() -> None:
            raise ValueError

        @manager.task(name="other")
        async def other() -> None:
            raise ValueError

        ids = [manager.add_task(mine), manager.add_task(other)]
        assert await manager.wait(ids, timeout=20)

        listed = (await client.get("/tasks")).json()
        assert [task["task_id"] for task in listed] == ids[:1]
        assert (await client.get(f"/tasks/{ids[1]}")).status_code == 404
        assert (await client.post(f"/tasks/{ids[1]}/retry")).status_code == 404
        assert (await client.post(f"/tasks/{ids[1]}/cancel")).status_code == 404
        many = (await client.post("/tasks/retry-failed?since=all")).json()
        assert ids[1] not in [result["original_task_id"] for result in many["results"]]
        for method, address in (
            ("GET", "/tasks/metrics"),
            ("GET", "/tasks/audit"),
            ("DELETE", "/tasks/history?value=0"),
        ):
            assert (await client.request(method, address)).status_code == 403


async def test_what_nobody_may_see_says_nothing_of_what_exists() -> None:
    """Whether a body is right, or a task is there, is answered to those only who may ask."""
    async with served(USERS) as (client, _):
        bad = await client.post("/tasks/bulk-retry", content=b"{", headers={"x": "y"})
        huge = await client.patch("/tasks/queues/default", json={"concurrency": -1})

    assert (bad.status_code, huge.status_code) == (401, 401)


@pytest.mark.parametrize(
    "auth",
    [
        *(("ada",), ("ada", ""), [], "ada", 7, [("ada", PASSWORD, "boss")], {"ada": PASSWORD}),
        [("ada", PASSWORD), ("ada", f"another {PASSWORD}", "viewer")],
        [([], PASSWORD)],
    ],
)
def test_auth_that_says_nothing_is_refused(auth: Any) -> None:
    with pytest.raises((AuthOptionError, SecurityOptionError)):
        TaskAdmin(FastAPI(), TaskManager(), auth=auth)


@pytest.mark.parametrize("seconds", [0, -1])
def test_sessions_that_would_have_ended_before_they_begin_are_refused(seconds: int) -> None:
    with pytest.raises(SecurityOptionError, match=f"session_seconds={seconds} must be .* above 0"):
        TaskAdmin(FastAPI(), TaskManager(), auth=("ada", PASSWORD), token_expiry=seconds)


@pytest.mark.parametrize("path", ["tasks", "", "/", "/a//b", "/{x}"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(AdminPathError, match="write it like '/tasks'"):
        TaskAdmin(FastAPI(), TaskManager(), path=path)
