"""What only SQLite has: one file, one writer at a time, several processes."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from taskiq_flow.exceptions import DuplicatePipelineError, StoreUnavailableError
from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.sql import SqlRunStore
from taskiq_flow.stores.sql.sqlite_faults import fix_of
from taskiq_flow.testing import StoreBench, step
from taskiq_flow.testing.store_bench import QUEUE, error_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
async def bench(path: Path) -> AsyncIterator[StoreBench]:
    async with StoreBench(
        lambda options, clock: SqlRunStore(
            f"sqlite:///{path}", options, clock=clock, timeout_seconds=0.4
        )
    ) as opened:
        yield opened


async def test_operations_that_wait_together_share_one_commit(
    bench: StoreBench, path: Path
) -> None:
    runs = [await bench.create(step("a")) for _ in range(50)]
    with closing(sqlite3.connect(path)) as watcher:
        before = watcher.execute("PRAGMA data_version").fetchone()[0]

        await asyncio.gather(*(run.start("a") for run in runs))

        commits = watcher.execute("PRAGMA data_version").fetchone()[0] - before
    assert commits <= 1
    assert {await run.status() for run in runs} == {RunStatus.RUNNING}


async def test_an_operation_that_fails_undoes_nothing_of_those_beside_it(
    bench: StoreBench,
) -> None:
    drafts = [bench.draft(step("a"), key=f"k{number % 40}") for number in range(50)]

    done = await asyncio.gather(
        *(bench.store.create(draft.new) for draft in drafts), return_exceptions=True
    )

    refused = [error for error in done if isinstance(error, DuplicatePipelineError)]
    stored = [await bench.store.get(draft.run_id) for draft in drafts]
    assert len(refused) == 10
    assert [found is not None for found in stored] == [True] * 40 + [False] * 10


async def test_a_value_that_no_file_can_keep_harms_only_whoever_gave_it(
    bench: StoreBench,
) -> None:
    runs = [await bench.create(step("a")) for _ in range(4)]
    reasons = ["first", "no text: \udce9", "second", "third"]

    async with asyncio.timeout(10):
        cancelled = await asyncio.gather(
            *(bench.store.cancel(r.run_id, why) for r, why in zip(runs, reasons, strict=True)),
            return_exceptions=True,
        )
        found = [await run.snapshot() for run in runs]

    assert isinstance(cancelled.pop(1), UnicodeEncodeError)
    assert cancelled == [True] * 3
    assert [run.reason for run in found] == ["first", None, "second", "third"]


async def test_a_file_that_others_keep_locked_is_unavailable_and_works_afterwards(
    bench: StoreBench, path: Path
) -> None:
    run = await bench.create(step("a"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()

        refused = await error_of(StoreUnavailableError, run.try_start("a"))
        waited = time.monotonic() - began
        still_read = await run.status()
        other.execute("ROLLBACK")

    assert "(database is locked); nothing was changed. What to do: find the process" in str(refused)
    assert waited < 5
    assert still_read is RunStatus.PENDING
    assert (await run.start("a")).attempt == 0


async def test_a_short_lock_of_another_process_is_waited_for(bench: StoreBench, path: Path) -> None:
    run = await bench.create(step("a"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        starting = asyncio.create_task(run.start("a"))
        # A reader with a connection of its own shows that the store's thread has had its turn.
        reader = SqlRunStore(bench.store.url)
        await reader.open()
        await reader.close()
        other.execute("COMMIT")

        grant = await starting

    assert grant.address == run.at("a")


async def test_a_place_where_no_file_can_be_is_unavailable(tmp_path: Path) -> None:
    store = SqlRunStore(f"sqlite:///{tmp_path}/nowhere/runs.db", timeout_seconds=0.2)

    refused = await error_of(StoreUnavailableError, store.open())

    assert "unable to open database file" in str(refused)
    assert "see that its directory exists" in str(refused)
    await store.close()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Somebody's file."""
    file = tmp_path / "notes.txt"
    file.write_text("These are my notes. " * 100)
    return file


async def test_a_file_that_is_no_database_is_named_with_what_to_do(notes: Path) -> None:
    store = SqlRunStore(f"sqlite:///{notes}", timeout_seconds=0.2)

    refused = await error_of(StoreUnavailableError, store.open())

    assert str(notes) in str(refused)
    assert "What to do: name another file: this one is not a SQLite database." in str(refused)
    await store.close()


@pytest.mark.parametrize(
    ("before", "advice"),
    [
        ("PRAGMA max_page_count = 2", "make room on its disk"),
        ("PRAGMA query_only = ON", "let this process write to the file"),
    ],
)
def test_a_full_disk_and_a_file_of_others_are_told_apart(before: str, advice: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE kept (value)")
        connection.execute(before)
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute("INSERT INTO kept VALUES (zeroblob(100000))")

    assert advice in fix_of(caught.value)


async def test_a_store_that_was_closed_opens_again_by_itself(bench: StoreBench) -> None:
    run = await bench.create(step("a"))

    await bench.store.close()

    assert await run.status() is RunStatus.PENDING


async def test_full_synchronisation_is_asked_for_in_the_url(path: Path) -> None:
    fast, safe = SqlRunStore(f"sqlite:///{path}"), SqlRunStore(f"sqlite:///{path}?synchronous=full")

    facts = [await store.health() for store in (fast, safe)]

    assert [fact["synchronous"] for fact in facts] == ["NORMAL", "FULL"]
    assert [fact["survives_power_loss"] for fact in facts] == [False, True]
    assert [fact["journal_mode"] for fact in facts] == ["wal", "wal"]
    await fast.close()
    await safe.close()


CLAIMER = """
    import asyncio, json, secrets, sys
    from taskiq_flow.model.records import Address, Done, Grant
    from taskiq_flow.stores.base import StoreOptions
    from taskiq_flow.stores.sql import SqlRunStore

    async def main(url, namespace, queue, run_ids):
        store = SqlRunStore(url, StoreOptions(namespace=namespace))
        await store.open()
        print("ready", flush=True)
        sys.stdin.readline()
        claimed, woken = [], []
        for run_id in run_ids:
            answer = await store.start(Address(run_id, 0, 0), secrets.token_hex(8))
            if isinstance(answer, Grant):
                claimed.append(run_id)
                await store.finish(answer.address, answer.token, Done(b"1"), None)
        for _ in range(5):
            woken += [wake.run_id for wake in await store.due([queue], limit=10)]
        print(json.dumps([claimed, woken]), flush=True)
        await store.close()

    asyncio.run(main(*json.loads(sys.argv[1])))
    """


async def test_processes_on_one_file_never_get_the_same_slot_or_the_same_wake(
    path: Path,
) -> None:
    """Four processes claim the same runs; each run has one that got it, and one publisher."""
    url, namespace = f"sqlite:///{path}", "together"
    past = time.time() - 3600
    async with StoreBench(
        lambda options, _: SqlRunStore(url, options, clock=lambda: past), namespace=namespace
    ) as bench:
        runs = [await bench.create(step("a")) for _ in range(60)]
        ended = [await bench.create(step("a"), publish=True) for _ in range(60)]
        for run in ended:
            await run.run("a")  # an hour ago, so that each is still to be published
    asked = json.dumps([url, namespace, QUEUE, [run.run_id for run in runs]])
    processes = [spawn(CLAIMER, asked) for _ in range(4)]
    for process in processes:
        assert read_line(process) == "ready\n"

    for process in processes:
        tell(process, "go\n")
    answers = [
        json.loads((await asyncio.to_thread(process.communicate))[0]) for process in processes
    ]

    claimed = [run_id for answer in answers for run_id in answer[0]]
    woken = [run_id for answer in answers for run_id in answer[1]]
    assert sorted(claimed) == sorted(run.run_id for run in runs)
    assert sorted(woken) == sorted(run.run_id for run in ended)


CREATOR = """
    import asyncio, json, sys
    from taskiq_flow.model.records import NewRun, StepRecord
    from taskiq_flow.stores.base import StoreOptions
    from taskiq_flow.stores.sql import SqlRunStore

    async def main(url, namespace):
        store = SqlRunStore(url, StoreOptions(namespace=namespace))
        steps = [StepRecord(index=0, name="a", task="a", blob=b"")]
        for number in range(10_000):
            new = NewRun(f"run-{number}", namespace, steps, plan=b"", kind="task")
            await store.create(new)
            print(new.run_id, flush=True)

    asyncio.run(main(*json.loads(sys.argv[1])))
    """


async def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    url, namespace = f"sqlite:///{path}", "killed"
    process = spawn(CREATOR, json.dumps([url, namespace]))
    acknowledged = [read_line(process).strip() for _ in range(100)]

    process.send_signal(signal.SIGKILL)
    acknowledged += (await asyncio.to_thread(process.communicate))[0].splitlines()

    store = SqlRunStore(url, StoreOptions(namespace=namespace))
    kept = {run_id: await store.get(run_id) for run_id in acknowledged if run_id.startswith("run-")}
    assert len(kept) >= 100
    assert None not in kept.values()
    await store.close()


def spawn(program: str, argument: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), argument],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()
