"""The log of writes of a SQLite file goes into the file while others write."""

import asyncio
import logging
import os
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from taskiq_flow.model.records import RunFilter
from taskiq_flow.stores.sql import SqlRunStore, sqlite_checkpoints, sqlite_file
from taskiq_flow.stores.sql.kept import KeptRuns
from taskiq_flow.stores.sql.schema import run as run_table
from taskiq_flow.stores.sql.sqlite_checkpoints import Checkpoints
from taskiq_flow.testing import StoreBench, step

SMALL = 300_000
"""Bytes of the log after which these tests want it to be brought into the file."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sqlite_checkpoints, "LOG_BYTES", SMALL)
    monkeypatch.setattr(sqlite_file, "LOOK_AFTER", 1)
    monkeypatch.setattr(sqlite_checkpoints, "MOST_LOG_PAGES", 0)  # never by whoever writes
    return tmp_path / "runs.db"


@pytest.fixture
async def bench(path: Path) -> AsyncIterator[StoreBench]:
    url = f"sqlite:///{path}"
    async with StoreBench(lambda options, clock: SqlRunStore(url, options, clock=clock)) as opened:
        yield opened


def log_bytes(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def are_going() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "taskiq-flow-checkpoint"]


async def over(bench: StoreBench) -> None:
    await bench.store.workers()  # what comes before it has been looked after then
    async with asyncio.timeout(30):
        while are_going():  # noqa: ASYNC110 - threads tell nobody
            await asyncio.sleep(0.01)


async def write(bench: StoreBench, path: Path, more: int) -> int:
    """Store runs until the log has so many more bytes; returns how many."""
    await over(bench)
    count, before = 0, log_bytes(path)
    while log_bytes(path) < before + more:
        await bench.create(step("a"))
        count += 1
    return count


def stored_in_file(path: Path) -> int:
    """How many runs are in the file itself, whatever its log has."""
    alone = path.with_suffix(".copy")
    shutil.copy(path, alone)
    with sqlite3.connect(alone) as connection:
        asked = f"SELECT count(*) FROM {run_table.name}"
        return int(connection.execute(asked).fetchone()[0])


async def test_a_log_that_has_grown_is_brought_into_the_file_and_begins_anew(
    bench: StoreBench, path: Path
) -> None:
    await bench.create(step("a"))
    written = await write(bench, path, SMALL - log_bytes(path))
    await over(bench)

    assert stored_in_file(path) >= written
    await bench.create(step("a"))
    assert log_bytes(path) < SMALL / 2

    written += await write(bench, path, SMALL)
    await over(bench)
    assert stored_in_file(path) >= written


async def test_what_is_known_of_runs_outlasts_a_checkpoint(
    bench: StoreBench, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await bench.create(step("a", sources=(-1,)), inputs={-1: b"1"})
    cleared: list[int] = []
    monkeypatch.setattr(KeptRuns, "clear", lambda kept: cleared.append(len(kept)))
    await write(bench, path, SMALL)
    await over(bench)
    await write(bench, path, SMALL)

    assert cleared == []
    assert await run.start("a")


async def test_who_closes_the_file_waits_for_a_checkpoint(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[float] = []
    bring = Checkpoints._bring

    def slowly(self: Checkpoints, path: str) -> None:
        time.sleep(0.5)
        bring(self, path)
        ended.append(time.monotonic())

    monkeypatch.setattr(Checkpoints, "_bring", slowly)
    url = f"sqlite:///{path}"
    async with StoreBench(lambda options, clock: SqlRunStore(url, options, clock=clock)) as bench:
        await bench.create(step("a"))
        await write(bench, path, SMALL)
        began = time.monotonic()
        await bench.create(step("a"))
        assert time.monotonic() - began < 0.4, "a write does not wait for it"
        assert not ended

    assert len(ended) == 1
    with pytest.raises(FileNotFoundError):
        log_bytes(path)  # who closes it last leaves none


async def test_a_checkpoint_that_fails_is_said_and_tried_again(
    bench: StoreBench, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_args: object, **_options: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    await bench.create(step("a"))
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        broken.setattr(sqlite_checkpoints.sqlite3, "connect", refuse)
        await write(bench, path, SMALL)
        await over(bench)
    assert "was not brought into its file, it is tried again: disk I/O error; see" in caplog.text

    written = await write(bench, path, SMALL)
    await over(bench)
    assert stored_in_file(path) >= written


async def test_what_is_written_counts_though_no_thread_can_be_begun(
    bench: StoreBench, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a process that ends."""
    await bench.create(step("a"))

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as ending:
        ending.setattr(threading.Thread, "start", refuse)
        written = await write(bench, path, 2 * SMALL)
    run = await bench.create(step("a"))

    assert await run.start("a")
    assert await bench.store.count_runs(RunFilter()) == written + 2
    assert caplog.text == ""


def test_a_signal_before_the_thread_of_a_checkpoint_begins_lets_the_file_be_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the thread of a caller, who looks after the log as well."""

    def break_off(_thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    checkpoints = Checkpoints("runs.db", synchronous="NORMAL")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        checkpoints.prepare(connection)
        connection.execute(f"CREATE TABLE some AS SELECT zeroblob({SMALL})")
        with monkeypatch.context() as signalled:
            signalled.setattr(threading.Thread, "start", break_off)
            with pytest.raises(KeyboardInterrupt):
                checkpoints.look()
        checkpoints.wait(1.0)

        checkpoints._seen = 0
        checkpoints.look()
        checkpoints.wait(30.0)
    assert path.stat().st_size >= SMALL


async def test_the_log_of_a_file_that_was_moved_away_is_not_taken_for_that_of_another(
    bench: StoreBench, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A new file in its place would be empty, and the log be deleted as a left one."""
    await bench.create(step("a"))
    shutil.move(path, path.with_suffix(".moved"))
    await write(bench, path, SMALL)
    await over(bench)

    assert path.name not in os.listdir(path.parent)
    assert log_bytes(path) >= SMALL
    assert "was not brought into its file" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all names are Unicode")
@pytest.mark.parametrize("name", ["\udcff", "50%41?mode=ro#"])
async def test_a_file_may_be_in_a_directory_of_any_name(
    path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = path.parent / name
    directory.mkdir()
    monkeypatch.chdir(directory)
    found = SqlRunStore("sqlite:///runs.db")
    async with StoreBench(lambda _options, _clock: found) as bench:
        await bench.create(step("a"))
        monkeypatch.chdir(path.parent)
        file = directory / "runs.db"
        written = await write(bench, file, SMALL - log_bytes(file))
        await over(bench)
        assert stored_in_file(file) >= written
