"""A task that may not be run twice has run once, or is interrupted, if its server is killed."""

import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fastapi_taskflow.models import TaskStatus
from tests.integration.fastapi.killing import LONG, Tasks, until
from tests.integration.fastapi.serving import journal, serving, store_of

PLACES = 3
"""In the event loop, and as many in threads."""

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("seed", range(10 if LONG else 1)),
]


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
def url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    return url_of(request.param)


async def test_a_task_that_did_not_wait_had_begun_when_it_was_answered(
    url: str, seed: int, tmp_path: Path
) -> None:
    """So that none is interrupted which has not begun."""
    after = random.Random(seed).randrange(50, 1500 if LONG else 200)

    tasks, statuses = await _kill_amid(tmp_path, url, seed, after, within=0.001)

    never_begun = tasks.answered.keys() - tasks.begun().keys()
    assert not never_begun
    assert not _answered_too_early(tmp_path)
    _assert_ended_and_ran_once(tasks, statuses)


async def test_of_tasks_that_wait_a_kill_interrupts_no_more_than_have_a_place(
    url: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that waited is stored as started, and then begun: a kill may come in between.

    That can have happened to as many as may run at once; all others begin later.
    """
    monkeypatch.setenv("BUSY", str(PLACES))
    after = random.Random(seed).randrange(50, 500 if LONG else 80)

    tasks, statuses = await _kill_amid(tmp_path, url, seed, after)

    begun = tasks.begun()
    interrupted = {n for n, status in statuses.items() if status is TaskStatus.INTERRUPTED}
    assert len(interrupted - begun.keys()) <= 2 * PLACES
    assert len(interrupted) <= 2 * PLACES
    _assert_ended_and_ran_once(tasks, statuses)


async def _kill_amid(
    directory: Path, url: str, seed: int, after: int, *, within: float = 0.05
) -> tuple[Tasks, dict[int, TaskStatus]]:
    """Kill a server amid requests, and wait for the ends of the tasks that were answered.

    In every other round another server is there; else one is started then.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(store_of(url))
        tasks = Tasks(directory, store, {})
        servers = [
            await stack.enter_async_context(serving(directory, url)) for _ in range(1 + seed % 2)
        ]
        began = time.monotonic()
        before = await tasks.kill_amid(
            range(after + 100), servers, after=after, within=within, task="note_once"
        )
        killed = time.monotonic()
        if len(servers) == 1:
            await stack.enter_async_context(serving(directory, url))
        await until(tasks.have_all_ended, seconds=120)
        statuses = await tasks.statuses()

    begun = tasks.begun()
    lost = {n for n, status in statuses.items() if status is TaskStatus.INTERRUPTED}
    twice = sum(count > 1 for count in begun.values())
    print(  # shown by `make chaos ARGS=-rP`
        f"{len(servers)} on {url.partition(':')[0]}, seed {seed}: killed after {after} answers"
        f" ({len(before)} had succeeded), {len(statuses)} answered, {len(lost)} interrupted,"
        f" {len(lost - begun.keys())} of them never begun, {twice} begun twice;"
        f" {killed - began:.1f} s to the kill, {time.monotonic() - killed:.1f} s to the last end"
    )
    return tasks, statuses


def _assert_ended_and_ran_once(tasks: Tasks, statuses: dict[int, TaskStatus]) -> None:
    begun = tasks.begun()
    assert set(statuses.values()) <= {TaskStatus.SUCCESS, TaskStatus.INTERRUPTED}
    assert not [number for number, count in begun.items() if count > 1]
    assert not [n for n, s in statuses.items() if s is TaskStatus.SUCCESS and not begun[n]]


def _answered_too_early(directory: Path) -> set[int]:
    """The tasks whose answer was sent before they had begun."""
    early, begun = set[int](), set[int]()
    for line in journal(directory):
        word, number = line.split()
        if word == "begin":
            begun.add(int(number))
        elif int(number) not in begun:
            early.add(int(number))
    return early
