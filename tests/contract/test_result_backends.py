"""What every result backend promises, and what those do that keep bytes."""

import asyncio
import json
import os
import stat
import time
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from taskiq import AsyncTaskiqTask, InMemoryBroker, TaskiqResult
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.brokers.inmemory_broker import InmemoryResultBackend as HostInmemory
from taskiq.depends.progress_tracker import TaskProgress as HostTaskProgress
from taskiq_redis import RedisAsyncResultBackend

from taskiq_flow.codec import register_exception
from taskiq_flow.exceptions import (
    PayloadTooLargeError,
    ResultGetError,
    ResultIsReadyError,
    ResultOptionError,
    StepFailedError,
    UnserializableValueError,
)
from taskiq_flow.progress import TaskProgress, get_progress
from taskiq_flow.result_backends import (
    AsyncResultBackend,
    FileResultBackend,
    InmemoryResultBackend,
    RedisResultBackend,
    SQLResultBackend,
)
from taskiq_flow.result_backends.file import LONGEST_NAME
from tests.integration.workers.harness import eventually

STORED = [
    "file",
    "sqlite",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("postgres", marks=pytest.mark.postgres),
]


def make(request: pytest.FixtureRequest, kind: str, **options: Any) -> AsyncResultBackend[Any]:
    """Make a backend of a kind; two of one test share their storage."""
    namespace: str = request.getfixturevalue("namespace")
    directory: Path = request.getfixturevalue("tmp_path")
    match kind:
        case "memory":
            return InmemoryResultBackend()
        case "file":
            return FileResultBackend(directory / "results", **options)
        case "sqlite":
            return SQLResultBackend(f"sqlite:///{directory}/results.db", **options)
        case "redis":
            url = request.getfixturevalue("redis_url")
            return RedisResultBackend(url, key_prefix=f"{namespace}:", **options)
        case _:
            url = request.getfixturevalue("postgres_url")
            return SQLResultBackend(url, table=namespace, **options)


@pytest.fixture(params=["memory", *STORED])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[AsyncResultBackend[Any]]:
    backend = make(request, request.param)
    await backend.startup()
    yield backend
    await backend.shutdown()


@pytest.fixture(params=STORED)
async def stored(request: pytest.FixtureRequest) -> AsyncIterator[AsyncResultBackend[Any]]:
    backend = make(request, request.param)
    yield backend
    await backend.shutdown()


def of(value: Any, **facts: Any) -> TaskiqResult[Any]:
    return TaskiqResult(**{"is_err": False, "execution_time": 0.5, **facts, "return_value": value})


# --- every backend


async def test_a_result_is_there_until_it_is_deleted(backend: AsyncResultBackend[Any]) -> None:
    await backend.set_result("a", of({"n": 1}, labels={"kind": "x"}, log="said"))
    await backend.set_progress("a", TaskProgress(1.0, "done"))

    assert await backend.is_result_ready("a")
    assert await backend.get_result("a") == of({"n": 1}, labels={"kind": "x"}, log="said")
    assert (await backend.get_result("a", with_logs=False)).log is None
    await backend.delete_result("a")
    await backend.delete_result("a")
    assert not await backend.is_result_ready("a")
    assert await backend.get_progress("a") is None
    with pytest.raises(ResultGetError, match="no result of task 'a'"):
        await backend.get_result("a")


async def test_the_last_result_and_the_last_progress_win(backend: AsyncResultBackend[Any]) -> None:
    for number in (1, 2):
        await backend.set_result("a", of(number))
        await backend.set_progress("a", TaskProgress(number / 2, "going", number, 2, {"n": number}))

    assert (await backend.get_result("a")).return_value == 2
    assert await get_progress(backend, "a") == TaskProgress(1.0, "going", 2, 2, {"n": 2})


@pytest.mark.parametrize("meta", [None, {"rows": 3}, [1, 2]])
async def test_progress_of_taskiqs_own_class_comes_back_as_ours(
    backend: AsyncResultBackend[Any], meta: Any
) -> None:
    await backend.set_progress("a", HostTaskProgress(state="STARTED", meta=meta))

    assert await backend.get_progress("a") == TaskProgress(status="STARTED", meta=meta)


HOSTILE = [
    "", ".", "..", "../../escaped", "/etc/passwd", "a/b\\c", "nul\0inside", "*?[a-z]", "50%_",
    "%41", "A", "a", "a.result", "a.progress", "a_progress", "naïve ☃", "\ud800",
    "' OR 1=1 --", "#", "=", "~", "x" * 151, "x" * 152, "y" * 100_000,
]  # fmt: skip


async def test_ids_are_data_and_none_is_taken_for_another(
    backend: AsyncResultBackend[Any],
) -> None:
    for number, task_id in enumerate(HOSTILE):
        await backend.set_result(task_id, of(number))
        await backend.set_progress(task_id, TaskProgress(meta=number))

    for number, task_id in enumerate(HOSTILE):
        assert (await backend.get_result(task_id)).return_value == number, task_id[:60]
        assert (await backend.get_progress(task_id)).meta == number, task_id[:60]
    for number, task_id in enumerate(HOSTILE[:-1], 1):
        await backend.delete_result(task_id)
        assert await backend.is_result_ready(HOSTILE[number]), "only its own is deleted"


async def test_a_plain_client_of_taskiq_waits_for_a_result(
    backend: AsyncResultBackend[Any],
) -> None:
    broker = InMemoryBroker().with_result_backend(backend)
    double = broker.register_task(_double, task_name="double")

    task: AsyncTaskiqTask[Any] = await double.kiq(21)

    assert (await task.wait_result(check_interval=0.01, timeout=30)).return_value == 42


async def _double(number: int) -> int:
    return 2 * number


# --- memory


async def test_memory_keeps_the_newest_results_and_counts_one_that_is_set_again_as_new() -> None:
    backend = InmemoryResultBackend[int](max_stored_results=2)
    for number, task_id in enumerate("abac"):
        await backend.set_result(task_id, of(number))
        await backend.set_progress(task_id, TaskProgress())

    ready = [task_id for task_id in "abc" if await backend.is_result_ready(task_id)]
    assert ready == list(backend.progress) == ["a", "c"]


@pytest.mark.parametrize("number", [0, -2])
def test_memory_refuses_a_number_of_results_that_makes_no_sense(number: int) -> None:
    with pytest.raises(ResultOptionError, match=f"max_stored_results={number} must be at least 1"):
        InmemoryResultBackend(number)


async def test_memory_without_a_limit_keeps_all() -> None:
    backend = InmemoryResultBackend[int](-1)
    for number in range(200):
        await backend.set_result(str(number), of(number))

    assert len(backend.results) == 200


# --- what keeps bytes


class Row(BaseModel):
    name: str


VALUES = [
    None, 2**80, float("inf"), "\ud800", b"\0\xff", (1, 2), {1, 2}, {1: "one"},
    datetime(2026, 1, 2, tzinfo=UTC), Path("a/b"), {"$tuple": [1]}, "x" * 1_000_000,
]  # fmt: skip


async def test_values_come_back_as_what_they_were(stored: AsyncResultBackend[Any]) -> None:
    for value in VALUES:
        await stored.set_result("a", of(value))

        assert (await stored.get_result("a")).return_value == value


async def test_models_come_back_through_the_return_annotation(
    stored: AsyncResultBackend[Any],
) -> None:
    await stored.set_result("a", of([Row(name="x")]))

    task: AsyncTaskiqTask[Any] = AsyncTaskiqTask("a", stored, return_type=list[Row])
    assert (await task.get_result()).return_value == [Row(name="x")]


@register_exception
class KnownError(Exception):
    """A type that was registered."""


class UnknownError(Exception):
    """A type that was not."""


async def test_exceptions_come_back_without_importing_anything(
    stored: AsyncResultBackend[Any],
) -> None:
    back: list[BaseException | None] = []
    for error in (ValueError("bad"), KnownError("mine", 3), UnknownError("other")):
        await stored.set_result("a", of(None, is_err=True, error=error))
        back.append((await stored.get_result("a")).error)

    bad, mine, other = back
    assert (type(bad), bad.args) == (ValueError, ("bad",))
    assert (type(mine), mine.args) == (KnownError, ("mine", 3))
    assert isinstance(other, StepFailedError)
    assert "UnknownError: other" in str(other)


async def test_whoever_waits_for_what_cannot_be_stored_hears_why(
    stored: AsyncResultBackend[Any],
) -> None:
    await stored.set_result("object", of({"rows": [object()]}))
    await stored.set_result("large", of("x" * 17 * 1024 * 1024))

    unknown, large = [await stored.get_result(task_id) for task_id in ("object", "large")]
    assert (unknown.is_err, unknown.return_value, unknown.execution_time) == (True, None, 0.5)
    assert isinstance(unknown.error, UnserializableValueError)
    assert "result of task 'object' cannot be stored" in str(unknown.error)
    assert isinstance(large.error, PayloadTooLargeError)


async def test_progress_that_cannot_be_stored_is_refused(stored: AsyncResultBackend[Any]) -> None:
    with pytest.raises(UnserializableValueError, match="progress of task 'a' cannot be stored"):
        await stored.set_progress("a", TaskProgress(meta={"handle": object()}))

    assert await stored.get_progress("a") is None


@pytest.mark.parametrize("kind", STORED)
async def test_what_is_older_than_its_time_is_gone(
    request: pytest.FixtureRequest, kind: str
) -> None:
    backend = make(request, kind, ttl_seconds=0.05)
    await backend.set_result("a", of(1))
    await backend.set_progress("a", TaskProgress())

    await eventually(lambda: _is_gone(backend))
    with pytest.raises(ResultGetError):
        await backend.get_result("a")
    await backend.shutdown()


async def _is_gone(backend: AsyncResultBackend[Any]) -> bool:
    return not await backend.is_result_ready("a") and await backend.get_progress("a") is None


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_time_that_makes_no_sense_is_refused(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(ResultOptionError, match="between a millisecond and a hundred years"):
        FileResultBackend(tmp_path, ttl_seconds=seconds)


def test_a_limit_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultOptionError, match="limit=0 must be at least 1 byte"):
        FileResultBackend(tmp_path, limit=0)


def test_a_database_that_is_not_supported_is_named() -> None:
    class Dialect:
        name = "mysql"

    class Engine:
        dialect = Dialect

    with pytest.raises(ResultOptionError, match=r"'mysql' .* use SQLite or PostgreSQL"):
        SQLResultBackend(Engine())  # type: ignore[arg-type]


class Compressed(TaskiqSerializer):
    def dumpb(self, value: Any) -> bytes:
        return zlib.compress(json.dumps(value).encode())

    def loadb(self, value: bytes) -> Any:
        return json.loads(zlib.decompress(value))


def _bytes_in(directory: Path) -> list[bytes]:
    return [file.read_bytes() for file in directory.iterdir()]


async def test_the_bytes_can_have_another_form(tmp_path: Path) -> None:
    backend = FileResultBackend[Any](tmp_path, serializer=Compressed())

    await backend.set_result("a", of((1, b"\0")))
    await backend.set_progress("a", TaskProgress(0.5, "half"))

    packed = _bytes_in(tmp_path)
    assert all(json.loads(zlib.decompress(data)) for data in packed)
    assert (await backend.get_result("a")).return_value == (1, b"\0")
    assert await backend.get_progress("a") == TaskProgress(0.5, "half")


async def test_a_database_that_cannot_be_reached_is_an_error_of_the_documented_types() -> None:
    backend = RedisResultBackend[Any]("redis://127.0.0.1:1/0")

    with pytest.raises(ResultIsReadyError, match="task 'a'"):
        await backend.is_result_ready("a")
    with pytest.raises(ResultGetError, match="task 'a' was not read"):
        await backend.get_result("a")
    await backend.shutdown()


# --- files


@given(st.text(st.characters(codec=None), max_size=200))
def test_no_id_leaves_the_directory(task_id: str) -> None:
    path = _files("results")._path("result", task_id)  # type: ignore[attr-defined]

    assert path.parent == Path("results")
    assert len(path.name.encode()) <= LONGEST_NAME + len(".progress.json")


def _files(directory: str) -> FileResultBackend[Any]:
    backend = FileResultBackend.__new__(FileResultBackend)
    backend.storage_dir = Path(directory)
    return backend


async def test_a_file_is_whole_or_not_there_and_only_its_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = FileResultBackend[Any](tmp_path / "deep" / "results")
    await backend.set_result("a", of("first"))

    def die(*_paths: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", die)
        with pytest.raises(OSError, match="the disk is gone"):
            await backend.set_result("a", of("second"))

    assert (await backend.get_result("a")).return_value == "first"
    (file,) = backend.storage_dir.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_broken_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.result.json").write_text('{"is_err": fal')

    with pytest.raises(ResultGetError, match="result of task 'a' was not read"):
        await FileResultBackend[Any](tmp_path).get_result("a")


async def test_expired_and_half_written_files_are_removed_and_no_others(tmp_path: Path) -> None:
    long_ago = time.time() - 30 * 24 * 3600
    waste = ["b.result.json", "b.progress.json", ".taskiq-flow-half", f"~{'0' * 64}.result.json"]
    kept = ["package.json", "my notes.result.json", "B.result.json", "readme"]
    for name in (*waste, *kept):
        (tmp_path / name).write_text("{}")
        os.utime(tmp_path / name, (long_ago, long_ago))

    await FileResultBackend[Any](tmp_path).set_result("a", of(1))

    assert set(os.listdir(tmp_path)) == {*kept, "a.result.json"}


# --- databases


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_expired_rows_are_removed(request: pytest.FixtureRequest, kind: str) -> None:
    short = make(request, kind, ttl_seconds=0.001)
    await short.set_result("a", of(1))
    await eventually(lambda: _is_gone(short))

    another = make(request, kind)
    await another.set_result("b", of(2))

    forever = make(request, kind, ttl_seconds=None)
    table = forever._table  # type: ignore[attr-defined]
    async with forever._engine.connect() as connection:  # type: ignore[attr-defined]
        assert [row.task_id for row in await connection.execute(table.select())] == [b"=b"]
    for backend in (short, another, forever):
        await backend.shutdown()


async def test_processes_that_start_at_once_make_one_table(request: pytest.FixtureRequest) -> None:
    several = [make(request, "sqlite") for _ in range(5)]

    await asyncio.gather(*(backend.startup() for backend in several))
    await several[0].set_result("a", of(1))

    assert await several[4].is_result_ready("a")
    for backend in several:
        await backend.shutdown()


async def test_every_key_in_redis_expires(redis_url: str, namespace: str) -> None:
    client = redis.Redis.from_url(redis_url)
    backend = RedisResultBackend[Any](client, f"{namespace}:")

    await backend.set_result("a", of(1))
    await backend.set_progress("a", TaskProgress())
    await backend.shutdown()

    keys = [key async for key in client.scan_iter(f"{namespace}:*")]
    assert len(keys) == 2
    assert all([0 < await client.ttl(key) <= 7 * 24 * 3600 for key in keys])
    await client.delete(*keys)
    await client.aclose()


# --- backends of others


async def test_our_progress_survives_taskiqs_own_backends(redis_url: str) -> None:
    ours = TaskProgress(0.5, "half", 1, 2, {"rows": 3})
    others = [HostInmemory[Any](), RedisAsyncResultBackend[Any](redis_url, result_ex_time=60)]

    for backend in others:
        await backend.set_progress("progress-of-ours", ours)

        assert await get_progress(backend, "progress-of-ours") == ours
        assert await get_progress(backend, "never-heard-of") is None
        await backend.shutdown()
