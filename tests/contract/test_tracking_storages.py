"""Every tracking storage keeps records exactly, finds them, and forgets them when told to."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from taskiq_flow.exceptions import TrackingQueryError
from taskiq_flow.tracking import (
    HistoryQuery,
    InMemoryPipelineStorage,
    PipelineStatus,
    RedisPipelineStorage,
    SQLPipelineStorage,
    StepStatus,
    TrackingStorage,
)

NOW = datetime.now(UTC)


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path, namespace: str
) -> AsyncIterator[TrackingStorage]:
    match request.param:
        case "memory":
            made: Any = InMemoryPipelineStorage()
        case "sqlite":
            made = SQLPipelineStorage(f"sqlite:///{tmp_path / 'tracking.db'}")
        case "redis":
            made = RedisPipelineStorage(request.getfixturevalue("redis_url"), f"{namespace}:")
        case _:
            url = request.getfixturevalue("postgres_url")
            made = SQLPipelineStorage(url, table=namespace.replace("-", "_"))
    yield made
    await made.close()


def record(number: int, status: str = "RUNNING", **fields: Any) -> PipelineStatus:
    """The record of a run that was created so many minutes ago."""
    created = NOW - timedelta(minutes=number)
    ended = created + timedelta(seconds=1) if status in ("COMPLETED", "FAILED") else None
    facts = {
        "run_id": f"run-{number}",
        "pipeline_id": f"run-{number}",
        "created_at": created,
        "started_at": created,
        "completed_at": ended,
    }
    return PipelineStatus(**{**facts, "status": status, **fields})


async def ids(page: list[PipelineStatus]) -> list[str]:
    return [status.run_id for status in page]


async def test_a_record_comes_back_as_it_was_saved(storage: TrackingStorage) -> None:
    values = {"when": NOW, "raw": b"\x00\xff", "pair": (1, 2), "nan": float("inf"), "all": {3}}
    status = record(
        1, "COMPLETED", name="a:*'%_\\ \x00 \ud800", tags=["x", "glob*?[a]"], result=values,
        steps=[StepStatus(step_name="s", status="COMPLETED", result=values, progress={"at": 1})],
        errors={"s": "ValueError: 'x'"}, duration_ms=1.5,
    )  # fmt: skip

    await storage.save_status(status)

    assert await storage.get_status("run-1") == status
    assert await storage.get_status("no-such-run") is None


async def test_a_later_record_replaces_the_earlier(storage: TrackingStorage) -> None:
    await storage.save_status(record(1))
    await storage.save_status(record(1, "COMPLETED"))

    assert str(await storage.get_status("run-1")) == "COMPLETED"
    assert await ids(await storage.list_pipelines("RUNNING")) == []
    assert await ids(await storage.list_pipelines("COMPLETED")) == ["run-1"]


async def test_what_was_read_before_the_end_does_not_undo_it(storage: TrackingStorage) -> None:
    """Two processes copy the same run, and one of them is slow."""
    await storage.save_status(record(1, "COMPLETED"))
    await storage.save_status(record(1, "RUNNING"))

    assert str(await storage.get_status("run-1")) == "COMPLETED"
    assert await ids(await storage.list_pipelines("RUNNING")) == []


async def test_a_name_finds_its_latest_run(storage: TrackingStorage) -> None:
    await storage.save_status(record(1, "RUNNING", pipeline_id="nightly"))
    await storage.save_status(record(2, "COMPLETED", pipeline_id="nightly"))

    latest = await storage.get_status("nightly")

    assert latest is not None
    assert latest.run_id == "run-1"
    assert await storage.delete_pipeline("nightly")
    earlier = await storage.get_status("nightly")
    assert earlier is not None
    assert earlier.run_id == "run-2"


HISTORIES = [
    (HistoryQuery(), range(12)),
    (HistoryQuery.of(status="completed"), [0, 3, 6, 9]),
    (HistoryQuery.of(status="FAILED"), [1, 4, 7, 10]),
    (HistoryQuery(name="name 1"), [1, 3, 5, 7, 9, 11]),
    (HistoryQuery(pipeline_type="dataflow"), [2, 6, 10]),
    (HistoryQuery(tag="t*"), [0, 5, 10]),
    (HistoryQuery(since=NOW - timedelta(minutes=3)), [0, 1, 2, 3]),
    (HistoryQuery(until=NOW - timedelta(minutes=9)), [10, 11]),
    (HistoryQuery.of(status="RUNNING", name="name 1"), [5, 11]),
    (HistoryQuery(tag="t%"), []),
]


@pytest.mark.parametrize(("query", "expected"), HISTORIES, ids=map(str, range(len(HISTORIES))))
async def test_a_history_is_narrowed_and_paged(
    storage: TrackingStorage, query: HistoryQuery, expected: list[int]
) -> None:
    for number in range(12):
        await storage.save_status(
            record(
                number,
                ["COMPLETED", "FAILED", "RUNNING"][number % 3],
                name=f"name {number % 2}",
                pipeline_type="dataflow" if number % 4 == 2 else "sequential",
                tags=["t*"] if number % 5 == 0 else ["other"],
            )
        )

    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await storage.get_history(query, limit=2, cursor=cursor)
        found += [status.run_id for status in page]
        cursor = page.cursor
        if cursor is None:
            break

    assert found == [f"run-{number}" for number in expected]


async def test_records_of_one_moment_are_each_on_one_page(storage: TrackingStorage) -> None:
    for number in range(7):
        await storage.save_status(
            record(1, run_id=f"r{number}", pipeline_id=f"r{number}", created_at=NOW)
        )

    first = await storage.get_history(HistoryQuery(), limit=4)
    second = await storage.get_history(HistoryQuery(), limit=4, cursor=first.cursor)

    assert await ids(first) + await ids(second) == [f"r{n}" for n in (6, 5, 4, 3, 2, 1, 0)]


async def test_old_records_of_ended_runs_are_removed(storage: TrackingStorage) -> None:
    for number in (10, 2000, 3000):
        await storage.save_status(record(number, "FAILED"))
    await storage.save_status(record(4000, "RUNNING"))

    assert await storage.cleanup_older_than(1) == 2

    assert await ids(await storage.list_pipelines()) == ["run-10", "run-4000"]
    assert await storage.cleanup_older_than(1) == 0


async def test_a_cursor_that_no_page_gave_is_refused(storage: TrackingStorage) -> None:
    await storage.save_status(record(1))

    with pytest.raises(TrackingQueryError, match="not the cursor of a page"):
        await storage.get_history(HistoryQuery(), cursor="page 2")


async def test_memory_keeps_what_was_used_last() -> None:
    storage = InMemoryPipelineStorage(max_records=2)
    await storage.save_status(record(1))
    await storage.save_status(record(2))
    await storage.get_status("run-1")

    await storage.save_status(record(3))

    assert await ids(await storage.list_pipelines()) == ["run-1", "run-3"]


@pytest.mark.redis
async def test_every_key_in_redis_expires(redis_url: str, namespace: str) -> None:
    client = redis.Redis.from_url(redis_url)
    storage = RedisPipelineStorage(client, f"{namespace}:", ttl_seconds=100)
    for status in (record(1), record(2, "FAILED"), record(2, "FAILED", pipeline_id="named")):
        await storage.save_status(status)

    keys = [key async for key in client.scan_iter(f"{namespace}:*")]

    assert len(keys) >= 6
    assert all([0 < await client.ttl(key) <= 100 for key in keys])
    # What expired leaves the listing, and its index with the next look.
    await client.delete(f"{namespace}:end:run-2")
    assert await ids(await storage.list_pipelines()) == ["run-1"]
    assert await client.zcard(f"{namespace}:index:") == 1
    await client.aclose()


@pytest.mark.redis
async def test_records_in_redis_are_written_as_the_user_says(
    redis_url: str, namespace: str
) -> None:
    def write(plain: Any) -> str:
        return repr(plain)

    storage = RedisPipelineStorage(redis_url, f"{namespace}:", serializer=write, deserializer=eval)
    status = record(1, "COMPLETED", result=[1, b"2"])

    await storage.save_status(status)

    assert await storage.get_status("run-1") == status
    await storage.delete_pipeline("run-1")
    await storage.close()
