"""Whatever a name, a tag, an event or a key is made of: it is refused by name, or kept exactly."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineTrackingManager, TaskiqFlowError
from taskiq_flow.cache import BaseCacheAdapter, InMemoryCacheAdapter, RedisCacheAdapter
from taskiq_flow.engine.client import RunClient
from taskiq_flow.model.records import RunFilter

TEXTS = [
    *("a", "A", "*", "?", "[a]", "a*", "a?", r"\*", "%", "_", "a%", "a_", "100%_\\", "{a}:{b}|0|1"),
    *("'; DROP TABLE runs; --", '"a"', " ", "a\nb", "../../etc/passwd", "/", "a/../b", "%2e%2e%2f"),
    *("a\x00b", "\x00", "\ud800", "a\udc80", "é", "e\u0301", "ä€𝄞", "\u202eabc", "x" * 5_000),
]
HUGE = "x" * 10_000_000
"""Longer than any name; as a value it is smaller than the largest that is kept."""


@pytest.fixture
def client(stored_broker: InMemoryBroker) -> RunClient:
    def add(value: int) -> int:
        return value + 1

    stored_broker.register_task(add, task_name="add")
    return RunClient.of(stored_broker)


def refused(error: TaskiqFlowError, text: str) -> bool:
    """Whether it says what was refused, and not all of it."""
    return repr(text)[1:12] in str(error) and len(str(error)) < 500


async def stored_runs(client: RunClient, **which: Any) -> list[str]:
    runs: list[str] = []
    cursor: str | None = None
    while True:
        page = await client.store.list_runs(RunFilter(**which), cursor=cursor)
        runs += [run.run_id for run in page.runs]
        cursor = page.cursor
        if cursor is None:
            return runs


async def start(
    client: RunClient, text: str, name: Callable[[Pipeline[Any], str], Any]
) -> str | None:
    """Run a pipeline that was named; its run, or None when the name was refused by name."""
    pipeline = Pipeline(client.runtime.broker, client.runtime.broker.find_task("add"))
    try:
        task = await name(pipeline, text).kiq(1)
    except TaskiqFlowError as error:
        assert refused(error, text)  # noqa: PT017 - either is right
        return None
    assert (await task.wait_result(timeout=20)).return_value == 2
    return task.run_id


async def start_all(
    client: RunClient, name: Callable[[Pipeline[Any], str], Any]
) -> dict[str, str | None]:
    texts = [*TEXTS, HUGE]
    return dict(
        zip(texts, await asyncio.gather(*(start(client, t, name) for t in texts)), strict=True)
    )


async def test_the_id_that_a_run_is_given(client: RunClient) -> None:
    tracking = PipelineTrackingManager().with_auto_storage(client.runtime.broker)
    runs = await start_all(client, Pipeline.with_id)

    assert all(runs[text] for text in ("a", "*", "../../etc/passwd", TEXTS[14]))
    for text, run_id in runs.items():
        status = await tracking.get_status(text)
        assert (status and status.run_id, status and status.pipeline_id) == (
            (run_id, text) if run_id else (None, None)
        )
    assert len(await stored_runs(client)) == sum(run is not None for run in runs.values())


@pytest.mark.parametrize("field", ["tag", "name"])
async def test_the_tag_and_the_name_that_a_run_is_listed_by(client: RunClient, field: str) -> None:
    give = Pipeline.with_tags if field == "tag" else Pipeline.with_name
    runs = await start_all(client, give)

    assert all(runs[text] for text in ("a", "%", TEXTS[14]))
    for text, run_id in runs.items():
        if run_id is not None:
            assert await stored_runs(client, **{field: text}) == [run_id]
    assert len(await stored_runs(client)) == sum(run is not None for run in runs.values())


async def test_the_event_that_a_run_waits_for_and_what_comes_with_it(client: RunClient) -> None:
    broker = client.runtime.broker
    waited: dict[str, Any] = {}
    for text in [*TEXTS, HUGE]:
        try:
            waited[text] = await Pipeline(broker).wait_for(text, timeout=60).kiq()
        except TaskiqFlowError as error:
            assert refused(error, text)  # noqa: PT017 - either is right
    assert all(waited[text] for text in ("a", "*", TEXTS[14]))

    for text, task in waited.items():
        for other in ("b", "[ab]", "%%", "**") if text in ("a", "*", "%") else ():
            await task.send_event(other, "of another name, and never one that matches")
        await task.send_event(text, [text, math.nan, HUGE if text == "*" else ""])

        got, number, huge = (await task.wait_result(timeout=20)).return_value
        assert (got, math.isnan(number)) == (text, True)
        assert huge == (HUGE if text == "*" else "")


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def cache(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[BaseCacheAdapter]:
    made: BaseCacheAdapter = (
        InMemoryCacheAdapter()
        if request.param == "memory"
        else RedisCacheAdapter(
            request.getfixturevalue("redis_url"), key_prefix=f"{namespace}:", default_ttl=60
        )
    )
    yield made
    await made.clear()
    await made.close()


async def test_the_key_of_a_cached_value(cache: BaseCacheAdapter) -> None:
    kept: list[str] = []
    for text in [*TEXTS, HUGE]:
        try:
            await cache.set(text, text, ttl_seconds=60)
            kept.append(text)
        except TaskiqFlowError as error:
            assert refused(error, text)  # noqa: PT017 - either is right

    assert {"a", "*", "%", "../../etc/passwd"} <= set(kept)
    assert [await cache.get(text) for text in kept] == kept
    assert await cache.invalidate("*")
    assert await cache.get("*") is None
    assert await cache.get("a") == "a"


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e300, 10**400, True, "60"])
async def test_a_time_to_live_that_is_none(cache: BaseCacheAdapter, seconds: Any) -> None:
    with pytest.raises(TaskiqFlowError, match="ttl_seconds="):
        await cache.set("a", 1, ttl_seconds=seconds)

    assert await cache.get("a") is None


async def test_a_run_leaves_no_file_beside_its_store(tmp_path: Path, client: RunClient) -> None:
    before = {file.name for file in tmp_path.parent.iterdir()}
    await start(client, "../escaped", Pipeline.with_id)

    assert {file.name for file in tmp_path.parent.iterdir()} == before
