"""Whoever only looks changes nothing: all GET routes there are, over all that a store holds."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount, Route
from starlette.types import ASGIApp
from taskiq import InMemoryBroker

from fastapi_taskflow import TaskAdmin, TaskManager
from taskiq_flow import Pipeline, PipelineMiddleware, PipelineVisualizationAPI, TaskiqFlowConfig
from taskiq_flow.dashboard import create_app
from taskiq_flow.operations import Operations
from taskiq_flow.scheduling import PipelineScheduler
from taskiq_flow.security import Role, Security
from tests.support.asking import ask

KEY = "the-key-of-the-admin"
HEADERS = [(b"x-api-key", KEY.encode())]
OF_THE_PROCESS = {
    "taskiq_flow_worker": "a process says that it lives",
    "taskiq_flow_beat": "and looks whether something is due",
}
QUERIES = {
    "/runs/{ref}/items": "step=double",
    "/runs/{ref}/heat": "step=double",
    "/runs/{run_id}": "step=double",
}
REDIRECTED = {
    "/tasks/dashboard",
    "/tasks/dashboard/stream",
    "/tasks/auth/login",
    "/tasks/auth/logout",
}


def routes_of(routes: Iterable[Any]) -> Iterator[tuple[frozenset[str], str]]:
    """The methods and the path of all that answers HTTP, in documents or not."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:  # FastAPI's own, of an included router
            yield from routes_of(inner.routes)
        elif isinstance(route, Route) or hasattr(route, "methods"):
            yield frozenset(route.methods), route.path


def content_of(database: Path) -> dict[str, list[Any]]:
    """All rows that others could read, by table."""
    with closing(sqlite3.connect(database)) as file:
        tables = [
            name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            name: sorted(map(repr, file.execute(f"SELECT * FROM {name}")))
            for name in tables
            if name not in OF_THE_PROCESS
        }


async def look_at_all(
    app: ASGIApp, routes: Iterable[Any], database: Path, names: Mapping[str, str], below: str = ""
) -> None:
    """Ask every GET route with ids that are there, and refuse GET and HEAD on every other."""
    found = list(routes_of(routes))
    looking = {path for methods, path in found if "GET" in methods}
    acting = {path for methods, path in found if methods - {"GET", "HEAD"}}
    assert looking
    assert acting

    before = content_of(database)
    assert sum(map(len, before.values())) > 5
    for path in sorted(looking | acting):
        at = below + re.sub(r"\{(\w+)\}", lambda found: names[found[1]], path)
        for method in ("GET", "HEAD"):
            query = QUERIES.get(path, "")
            status = (await ask(app, at, query, method=method, headers=HEADERS)).status
            if path in REDIRECTED:
                assert status in {303, 307}, (method, at)
            elif method == "GET" and path in looking:
                assert status == 200, (method, at)
            elif path in looking:
                assert status in {200, 405}, (method, at)
            else:
                assert status in {404, 405}, (method, at)
    assert content_of(database) == before


@asynccontextmanager
async def filled(database: Path) -> AsyncIterator[tuple[InMemoryBroker, dict[str, str]]]:
    """A broker whose store holds a run of each kind, a dead letter and a schedule."""
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=f"sqlite:///{database}"))

    @broker.task(task_name="look:double")
    async def double(value: int) -> int:
        return 2 * value

    @broker.task(task_name="look:fail")
    async def fail(value: int) -> None:
        raise ValueError(value)

    await broker.startup()
    mapped = await Pipeline(broker).map(double).with_name("etl").kiq([1, 2])
    failed = await Pipeline(broker, fail).kiq(1)
    await Pipeline(broker).wait_for("go").call_next(double).kiq()
    await asyncio.gather(
        *(task.wait_result(timeout=20, raise_on_error=False) for task in (mapped, failed))
    )
    async with PipelineScheduler(broker) as scheduler:
        await scheduler.schedule(Pipeline(broker, double), "0 0 1 1 *", (1,), job_id="yearly")
    yield broker, {"ref": mapped.task_id, "run_id": mapped.task_id, "schedule_id": "yearly"}
    await broker.shutdown()


async def test_no_get_of_the_api_changes_anything(tmp_path: Path) -> None:
    database = tmp_path / "flow.db"
    keys = {KEY: {"role": "admin", "name": "ada"}}
    async with filled(database) as (broker, names):
        api = PipelineVisualizationAPI(broker, None, TaskiqFlowConfig(api_keys=keys))
        app = api.get_app()
        async with app.router.lifespan_context(app):
            await look_at_all(app, app.routes, database, {**names, "pipeline_id": "etl"})


async def test_no_get_of_the_dashboard_changes_anything(tmp_path: Path) -> None:
    database = tmp_path / "flow.db"
    security = Security(api_keys={KEY: {"role": Role.ADMIN, "name": "ada"}})
    async with filled(database) as (broker, names), await Operations.open(broker=broker) as found:
        app = create_app(found, security=security)
        routes = [route for route in app.routes if not isinstance(route, Mount)]  # its style
        await look_at_all(app, routes, database, names)


async def test_no_get_of_the_routes_of_tasks_changes_anything(tmp_path: Path) -> None:
    database = tmp_path / "tasks.db"
    app = FastAPI()
    manager = TaskManager(snapshot_db=str(database))
    security = Security(api_keys={KEY: {"role": Role.ADMIN, "name": "ada"}})
    admin = TaskAdmin(app, manager, auth=security)

    @manager.task()
    def double(value: int) -> int:
        return 2 * value

    @manager.schedule(every=3600)
    def hourly() -> None:
        """A schedule."""

    async with app.router.lifespan_context(app):
        task_id = manager.add_task(double, 2)
        assert await manager.wait([task_id], timeout=20)
        names = {"task_id": task_id, "run_id": task_id, "name": "default"}
        await look_at_all(app, app.routes, database, names)
        dashboard = create_app(await admin.desk.operations(), security=admin.security)
        pages = [route for route in dashboard.routes if not isinstance(route, Mount)]
        names["schedule_id"] = "nothing"
        await look_at_all(app, pages, database, names, below="/tasks/dashboard")
