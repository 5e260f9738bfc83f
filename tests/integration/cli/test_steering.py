"""What the command line does to runs, with its exit codes."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from fastapi_taskflow import TaskManager
from tests.integration.cli.conftest import Cli

APP = """
import os
from taskiq import InMemoryBroker
from taskiq_flow import Pipeline

broker = InMemoryBroker()

@broker.task
async def add(value: int) -> int:
    return value + 1

@broker.task
async def check(value: int) -> int:
    if value < 0:
        raise ValueError("negative")
    return value

@broker.task
async def leave(value: int) -> int:
    raise KeyboardInterrupt

chain = Pipeline(broker).with_name("chain").call_next(add).call_next(check)
waiting = Pipeline(broker).with_name("waiting").wait_for("go").call_next(add)
"""


@pytest.fixture
def app(cli: Cli) -> str:
    return cli.write(APP)


def run(cli: Cli, app: str, value: int) -> str:
    said = cli("run", f"{app}:chain", "-q", f"--arg={value}", "--json")
    return said.json["run_id"]


def test_a_failed_run_is_retried_once_and_says_where_it_goes_on(cli: Cli, app: str) -> None:
    failed = run(cli, app, -9)

    first, second = (cli("retry", failed[-8:], "--json").json for _ in range(2))

    assert first["run_id"] == second["run_id"] != failed
    assert "run MODULE:PIPELINE --continue" in cli("retry", failed).err
    assert cli("retry", first["run_id"]).code == 5
    assert cli("cancel", first["run_id"]).code == 0
    again = cli("cancel", first["run_id"])
    assert again.code == 5
    assert again.out == f"Run {first['run_id']} is left as it is.\n"
    assert again.err == "It had ended before.\n"


def test_a_run_that_completed_is_run_again_from_its_start(cli: Cli, app: str) -> None:
    done = run(cli, app, 1)

    again = cli("retry", done, "--from-start", "--json")

    assert again.code == 0
    assert again.json["run_id"] != done
    assert cli("show", again.json["run_id"], "--json").json["summary"]["steps_done"] == 0


def test_a_run_of_an_application_is_not_said_to_go_on_by_a_command(cli: Cli) -> None:
    url = f"sqlite:///{cli.directory / 'tasks.db'}"

    async def breaks() -> None:
        raise ConnectionError("down")

    async def fail() -> str:
        async with TaskManager(snapshot_db=url) as manager:
            manager.task()(breaks)
            failed = manager.add_task(breaks)
            assert await manager.wait([failed], 20)
            return failed

    said = cli("retry", asyncio.run(fail()), "--store", url)

    assert said.code == 0
    assert "the application that it is a task of" in said.err
    assert "--continue" not in said.err


def test_a_run_is_forked_from_a_step_with_another_value(cli: Cli, app: str) -> None:
    done = run(cli, app, 1)

    forked = cli("fork", done, "--from", "check", "--output", "add=-5", "--id", "other").out.strip()
    shown = cli("show", "other", "--json").json

    assert (shown["summary"]["run_id"], shown["fork_of"]) == (forked, done)
    assert shown["outputs"]["add"]["value"] == -5
    assert cli("fork", done, "--from", "nothing").code == 3
    assert cli("fork", done).code == 5
    assert cli("fork", done, "-i", "broken").code == 2


def test_dead_letters_are_listed_replayed_and_removed(cli: Cli, app: str) -> None:
    first, second = run(cli, app, -9), run(cli, app, -9)

    letters = cli("dlq", "list", "--json").json["letters"]
    assert cli("dlq", "list", "--json", "--error", "ValueError").json["letters"] == letters
    assert cli("dlq", "replay", "--all", "--error", "KeyError", "--json").json["made"] == {}
    replayed = cli("dlq", "replay", "--all", "--name", "chain", "--json").json

    assert [letter["run_id"] for letter in letters] == [second, first]
    assert set(replayed["made"]) == {first, second}
    assert cli("dlq", "list").err == "No dead letters.\n"
    retried = cli("dlq", "list", "--retried", "--json").json["letters"]
    assert [letter["run_id"] for letter in retried] == [second, first]
    assert {letter["retried_as"] for letter in retried} == set(replayed["made"].values())
    assert cli("dlq", "replay").code == 2
    assert cli("dlq", "delete", first).err == (
        "error: --yes is needed where nobody can be asked.\n"
    )
    assert cli("dlq", "delete", first).code == 2
    going_on = replayed["made"][second]
    assert cli("dlq", "delete", going_on, "--yes").code == 5
    assert cli("dlq", "replay", going_on).code == 5
    assert cli("dlq", "delete", first, "--yes", "--json").json == {"removed": [first]}
    assert cli("show", first).code == 3


def test_events_are_refused_by_runs_that_have_ended(cli: Cli, app: str) -> None:
    done = run(cli, app, 1)

    assert cli("send-event", done, "go").code == 5
    assert cli("send-event", done, "go", "{not json").code == 2
    assert cli("send-event", "nothing", "go").code == 3


def test_ended_runs_are_removed_after_a_time(cli: Cli, app: str) -> None:
    done = run(cli, app, 1)

    kept = cli("purge", "--older-than", "1h", "--yes", "--json").json
    gone = cli("purge", "--older-than", "0s", "--yes", "--json").json

    assert (kept, gone) == ({"removed": 0}, {"removed": 1})
    assert cli("show", done).code == 3
    assert cli("purge", "--older-than", "soon", "--yes").code == 2


def test_a_store_of_another_format_is_refused_with_the_command_to_run(cli: Cli, app: str) -> None:
    run(cli, app, 1)
    path = cli.directory / "taskiq-flow.sqlite"
    with closing(sqlite3.connect(path)) as file, file as database:
        table = database.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE '%meta'"
        ).fetchone()[0]
        database.execute(f"UPDATE {table} SET value = '99' WHERE name = 'format'")

    said = cli("list")

    assert said.code == 4
    assert "taskiq-flow migrate" in said.err
    assert cli("migrate").code == 4
