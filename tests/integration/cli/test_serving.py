"""The dashboard that the command line serves, and the schedules that it shows and changes."""

import asyncio
import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from taskiq import InMemoryBroker

from fastapi_taskflow import TaskManager
from taskiq_flow import Pipeline, PipelineMiddleware
from taskiq_flow.cli.dashboard import Auth, make_security, served
from taskiq_flow.operations import Operations
from taskiq_flow.scheduling import PipelineScheduler
from tests.integration.cli.conftest import Cli


async def test_the_printed_address_logs_in_and_nobody_else_gets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await Operations.open(f"sqlite:///{tmp_path / 'runs.db'}") as operations:
        async with served(operations, make_security()) as address:
            async with httpx.AsyncClient(follow_redirects=True) as browser:
                inside = await browser.get(address)
                stays = await browser.get(address.partition("?")[0] + "runs")
            async with httpx.AsyncClient() as stranger:
                outside = await stranger.get(address.partition("?")[0] + "runs")

        with pytest.raises(httpx.TransportError):
            async with httpx.AsyncClient() as late:
                await late.get(address)
    assert (inside.status_code, stays.status_code, outside.status_code) == (200, 200, 401)
    assert "token=" not in str(inside.url)
    assert "<html" in inside.text


async def test_without_a_login_it_asks_nobody_only_if_that_was_said(tmp_path: Path) -> None:
    async with await Operations.open(f"sqlite:///{tmp_path / 'runs.db'}") as operations:
        security = make_security(Auth.OFF)
        async with served(operations, security) as address, httpx.AsyncClient() as stranger:
            answer = await stranger.get(address)

    assert answer.status_code == 200
    assert "token" not in address


def test_an_address_that_is_taken_is_one_sentence(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = cli("dashboard", "--port", str(port), "--store", "sqlite:///runs.db")

    assert said.code == 2
    assert f"127.0.0.1:{port}" in said.err
    assert "give another port, or 0 for any that is free" in said.err
    assert "Traceback" not in said.err


def test_a_login_that_is_not_set_up_is_refused_at_the_start(cli: Cli) -> None:
    said = cli("dashboard", "--auth", "password", "--store", "sqlite:///runs.db")

    assert said.code == 2


def test_schedules_are_listed_paused_hurried_and_removed(cli: Cli) -> None:
    url = f"sqlite:///{cli.directory / 'runs.db'}"

    async def schedule() -> None:
        broker = InMemoryBroker()
        broker.add_middlewares(PipelineMiddleware(store=url))

        @broker.task(task_name="add")
        async def add(value: int) -> int:
            return value + 1

        await broker.startup()
        scheduler = PipelineScheduler(broker)
        await scheduler.schedule(
            Pipeline(broker).with_name("sums").call_next(add, 1), "0 3 * * *", job_id="nightly"
        )
        await scheduler.shutdown()
        await broker.shutdown()

    asyncio.run(schedule())
    store = ("--store", url)

    (before,) = cli("schedules", "list", *store, "--json").json
    paused = cli("schedules", "pause", "nightly", *store)
    (during,) = cli("schedules", "list", *store, "--json").json
    words = cli("schedules", "list", *store).out
    resumed = cli("schedules", "resume", "nightly", *store)
    started = cli("schedules", "run", "nightly", *store, "--json").json
    unconfirmed = cli("schedules", "remove", "nightly", *store)
    (kept,) = cli("schedules", "list", *store, "--json").json
    removed = cli("schedules", "remove", "nightly", "--yes", *store)

    assert (before["schedule_id"], before["is_paused"], during["is_paused"]) == (
        "nightly",
        False,
        True,
    )
    assert "paused" in words
    assert (unconfirmed.code, kept["schedule_id"]) == (2, "nightly")
    assert "--yes is needed" in unconfirmed.err
    assert {paused.code, resumed.code, removed.code} == {0}
    assert cli("show", started["run_id"], *store, "--json").json["summary"]["name"] == "sums"
    assert json.loads(cli("schedules", "list", *store, "--json").out) == []
    assert cli("schedules", "pause", "nightly", *store).code == 3


def test_a_task_that_is_to_run_once_is_named_with_the_schedules_and_cancelled_as_a_run(
    cli: Cli,
) -> None:
    url = f"sqlite:///{cli.directory / 'tasks.db'}"

    async def note() -> None: ...

    async def plan() -> None:
        async with TaskManager(snapshot_db=url) as manager:
            manager.task()(note)
            tomorrow = datetime.now(UTC) + timedelta(days=1)
            await manager.schedule_once(note, run_at=tomorrow, run_key="mail")

    asyncio.run(plan())
    store = ("--store", url)

    said = cli("schedules", "list", *store)
    command = said.err.strip().rpartition("taskiq-flow ")[2].split()
    (planned,) = cli(*command, *store, "--json").json["runs"]
    cancelled = cli("cancel", planned["run_id"], *store)

    assert "1 task to run once" in said.err
    assert (planned["name"], cancelled.code) == ("note", 0)
    assert "to run once" not in cli("schedules", "list", *store).err
