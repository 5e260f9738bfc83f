"""Operations of a SQLite store in the thread of whoever asks, beside those of its event loops."""

import asyncio
import gc
import os
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fastapi_taskflow.bridge import Bridge
from taskiq_flow.exceptions import DuplicatePipelineError, StoreUnavailableError
from taskiq_flow.model.records import RunFilter, RunStatus
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.sql import SqlRunStore, statements
from taskiq_flow.stores.sql.kept import KeptRuns
from taskiq_flow.stores.sql.session import Mode, Session
from taskiq_flow.stores.sql.sqlite_file import Job
from taskiq_flow.testing import StoreBench, step
from taskiq_flow.testing.store_bench import Draft

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
async def bench(path: Path) -> AsyncIterator[StoreBench]:
    async with StoreBench(
        lambda options, clock: SqlRunStore(
            f"sqlite:///{path}", options, clock=clock, timeout_seconds=1.0
        )
    ) as opened:
        yield opened


@pytest.fixture
async def bridge(bench: StoreBench) -> AsyncIterator[Bridge]:
    asked = Bridge(bench.store)
    yield asked
    await asked.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


class Busy:
    """Has the connection of a store in use, from now on until it is told to let go."""

    def __init__(self, store: RunStore) -> None:
        self._has_begun, self._may_end = threading.Event(), threading.Event()
        assert isinstance(store, SqlRunStore)
        self._reading = asyncio.ensure_future(store._do(self._read, Mode.READ))

    async def __aenter__(self) -> "Busy":
        await asyncio.to_thread(self._has_begun.wait, 20)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.let_go()
        await self._reading

    def let_go(self) -> None:
        self._may_end.set()

    def _read(self, _session: Session) -> None:
        self._has_begun.set()
        self._may_end.wait(20)


def do(bridge: Bridge, work: Callable[[Session], Any]) -> Any:
    """Have an operation of our own done at once."""

    async def ask(store: RunStore) -> Any:
        assert isinstance(store, SqlRunStore)
        return await store._do(work, Mode.WRITE)

    return bridge.ask(ask)


def the_thread(bench: StoreBench) -> Any:
    assert isinstance(bench.store, SqlRunStore)
    gate: Any = bench.store._gate
    return gate._thread


async def turns() -> None:
    """Let the event loop hand over what it has gathered."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_question_is_answered_without_another_thread(path: Path) -> None:
    before = set(threading.enumerate())
    bridge = Bridge(SqlRunStore(f"sqlite:///{path}"))

    found = bridge.ask(lambda store: store.get("nobody"))

    assert found is None
    assert set(threading.enumerate()) == before
    await bridge.close()


async def test_threads_that_ask_together_get_their_own_answers(
    bench: StoreBench, bridge: Bridge, pool: ThreadPoolExecutor
) -> None:
    runs = [await bench.create(step("a")) for _ in range(20)]
    drafts = [bench.draft(step("a")) for _ in range(200)]

    creating = [pool.submit(bridge.ask, lambda s, d=d: s.create(d.new)) for d in drafts]
    starting = asyncio.gather(*(run.start("a") for run in runs))
    created = [await asyncio.wrap_future(each) for each in creating]
    await starting

    assert [[r.address.run_id for r in ready] for ready in created] == [[d.run_id] for d in drafts]
    assert {await run.status() for run in runs} == {RunStatus.RUNNING}
    assert await bench.store.count_runs(RunFilter(status=RunStatus.PENDING)) == 200


async def test_what_waits_for_the_connection_already_is_done_before_a_question(
    bench: StoreBench, bridge: Bridge, pool: ThreadPoolExecutor
) -> None:
    await bench.create(step("a"))
    bridge.ask(lambda store: store.get("nobody"))  # the first question asks for more than itself
    first, second = bench.draft(step("a"), key="one"), bench.draft(step("a"), key="one")

    async with Busy(bench.store):
        creating = asyncio.ensure_future(bench.store.create(first.new))
        await turns()
        late = asyncio.wrap_future(pool.submit(bridge.ask, lambda s: s.create(second.new)))
    await creating

    with pytest.raises(DuplicatePipelineError):
        await late


async def test_a_question_waits_until_the_connection_is_free(
    bench: StoreBench, bridge: Bridge, pool: ThreadPoolExecutor
) -> None:
    run = await bench.create(step("a"))

    async with Busy(bench.store) as busy:
        asking = pool.submit(bridge.ask, lambda store: store.get(run.run_id))
        await turns()
        was_answered = asking.done()
        busy.let_go()
        found = await asyncio.wrap_future(asking)

    assert not was_answered
    assert found is not None


async def test_what_was_given_up_is_not_done_later(
    bench: StoreBench, bridge: Bridge, pool: ThreadPoolExecutor
) -> None:
    draft = bench.draft(step("a"))

    async with Busy(bench.store):
        asking = pool.submit(bridge.ask, lambda store: store.create(draft.new))
        with pytest.raises(StoreUnavailableError, match="no answer for 1 s"):
            await asyncio.wrap_future(asking)

    assert await bench.store.get(draft.run_id) is None


async def test_what_somebody_else_is_doing_right_now_is_waited_for(
    bench: StoreBench, bridge: Bridge, pool: ThreadPoolExecutor
) -> None:
    """Told that nothing had been stored, its caller would do it twice."""
    draft = bench.draft(step("a"))
    assert isinstance(bench.store, SqlRunStore)

    async with Busy(bench.store) as busy:
        slow = asyncio.ensure_future(
            bench.store._do(lambda _: threading.Event().wait(1.5), Mode.READ)
        )
        await turns()
        asking = pool.submit(bridge.ask, lambda store: store.create(draft.new))
        while not the_thread(bench)._jobs:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        busy.let_go()
        (ready,) = await asyncio.wrap_future(asking)
    await slow

    assert ready.address.run_id == draft.run_id


async def test_an_operation_that_is_broken_off_leaves_the_thread_to_the_others(
    bench: StoreBench,
) -> None:
    def broken(_session: Session) -> None:
        raise asyncio.CancelledError

    run = await bench.create(step("a"))
    assert isinstance(bench.store, SqlRunStore)
    with pytest.raises(RuntimeError, match="ended in CancelledError"):
        await bench.store._do(broken, Mode.WRITE)

    async with asyncio.timeout(20):
        assert await run.status() is RunStatus.PENDING


async def test_a_file_that_others_keep_locked_is_unavailable_and_answers_afterwards(
    bench: StoreBench, bridge: Bridge, path: Path
) -> None:
    draft = bench.draft(step("a"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreUnavailableError, match=r"database is locked.*fuser"):
            bridge.ask(lambda store: store.create(draft.new))
        other.execute("ROLLBACK")

    assert len(bridge.ask(lambda store: store.create(draft.new))) == 1


def test_a_place_where_no_file_can_be_is_unavailable_each_time(tmp_path: Path) -> None:
    bridge = Bridge(SqlRunStore(f"sqlite:///{tmp_path}/nowhere/runs.db"))

    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="see that its directory exists"):
            bridge.ask(lambda store: store.get("nobody"))


async def test_an_operation_that_fails_is_told_only_to_who_asked_for_it(
    bench: StoreBench, bridge: Bridge, pool: ThreadPoolExecutor
) -> None:
    def fail(_session: Session) -> None:
        raise LookupError

    run = await bench.create(step("a"))

    async with Busy(bench.store) as busy:
        starting = asyncio.ensure_future(run.start("a"))
        await turns()
        failing = asyncio.wrap_future(pool.submit(do, bridge, fail))
        busy.let_go()
        with pytest.raises(LookupError):
            await failing

    assert (await starting).address == run.at("a")


async def test_who_asks_in_the_middle_of_its_own_transaction_is_refused_at_once(
    bench: StoreBench, bridge: Bridge
) -> None:
    """A handler of a signal or of a log line may ask; it cannot wait for itself."""

    def interrupted(_session: Session) -> str:
        with pytest.raises(StoreUnavailableError, match="in the middle of a transaction") as raised:
            bridge.ask(lambda store: store.get("nobody"))
        return str(raised.value)

    assert "to another thread, or to later" in do(bridge, interrupted)
    assert bridge.ask(lambda store: store.get("nobody")) is None


class Interrupted(BaseException):
    """What Ctrl-C is where no event loop has taken it over."""


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Let a signal raise in the main thread, wherever that is."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("interrupts")
async def test_an_interrupt_undoes_what_it_hits(bench: StoreBench, bridge: Bridge) -> None:
    run = await bench.create(step("a"))

    def interrupted(session: Session) -> None:
        session.execute(statements.NOTE_PROGRESS, run_id=run.run_id, index=0, body=b"1")
        signal.raise_signal(signal.SIGUSR1)

    with pytest.raises(Interrupted):
        do(bridge, interrupted)

    await run.start("a")
    assert (await run.step("a")).progress is None
    assert bridge.ask(lambda store: store.get(run.run_id)) is not None


@pytest.mark.usefixtures("interrupts")
async def test_what_an_interrupt_has_undone_is_not_done_by_another_thread(
    bench: StoreBench, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await bench.create(step("a"))
    thread = the_thread(bench)
    withdraw = thread._withdraw

    def withdraw_late(job: Any) -> bool:
        time.sleep(0.2)  # so that the thread, which has heard the bell, is the first
        return withdraw(job)

    monkeypatch.setattr(thread, "_withdraw", withdraw_late)

    def interrupted(session: Session) -> None:
        session.execute(statements.NOTE_PROGRESS, run_id=run.run_id, index=0, body=b"1")
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGUSR1)

    with pytest.raises(Interrupted):
        do(bridge, interrupted)

    await run.start("a")
    assert (await run.step("a")).progress is None


@pytest.mark.usefixtures("interrupts")
async def test_an_interrupt_after_the_commit_has_nothing_done_twice(
    bench: StoreBench, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bridge.ask(lambda store: store.get("nobody")) is None
    done: list[str] = []
    answer = asyncio.get_running_loop().create_future()
    other = Job(lambda _: done.append("other"), True, None, object(), answer)
    the_thread(bench)._add([other])  # the bell is not rung: the caller finds it first
    trim = KeptRuns.trim

    def interrupted(kept: KeptRuns) -> None:
        trim(kept)
        signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(KeptRuns, "trim", interrupted)
    with pytest.raises(Interrupted):
        do(bridge, lambda _: done.append("own"))
    monkeypatch.undo()

    async with asyncio.timeout(20):
        await answer
    assert done == ["other", "own"]


@pytest.mark.usefixtures("interrupts")
async def test_an_interrupt_harms_nothing_of_what_was_to_be_done_with_it(
    bench: StoreBench, bridge: Bridge, pool: ThreadPoolExecutor
) -> None:
    """Whoever has the connection does what others wait for, too."""
    await bench.create(step("a"))
    twins = [bench.store.twin() for _ in range(4)]
    for twin in twins:
        await twin.open()
    drafts = [bench.draft(step("a")) for _ in twins]
    busy, may_end = threading.Event(), threading.Event()

    async def create(store: RunStore, draft: Draft) -> None:
        async with asyncio.timeout(10):
            await store.create(draft.new)

    def occupied(_session: Session) -> None:
        busy.set()
        may_end.wait(20)

    def interrupted(_session: Session) -> None:
        signal.raise_signal(signal.SIGUSR1)

    occupying = pool.submit(do, bridge, occupied)
    busy.wait(20)
    creating: list[Future[None]] = []

    def wait_as_well() -> None:
        for twin, draft in zip(twins, drafts, strict=True):
            creating.append(pool.submit(asyncio.run, create(twin, draft)))
        threading.Timer(0.1, may_end.set).start()

    threading.Timer(0.1, wait_as_well).start()
    with pytest.raises(Interrupted):
        do(bridge, interrupted)

    occupying.result()
    for each in creating:
        each.result()
    assert None not in [await bench.store.get(draft.run_id) for draft in drafts]
    for twin in twins:
        twin.leave()


@needs_fork
async def test_a_forked_process_asks_by_itself_whoever_was_at_it(
    bench: StoreBench, bridge: Bridge
) -> None:
    run = await bench.create(step("a"))
    assert bridge.ask(lambda store: store.get(run.run_id)) is not None

    async with Busy(bench.store):
        child = os.fork()
        if not child:
            try:
                found = bridge.ask(lambda store: store.cancel(run.run_id, "by the child"))
                os._exit(0 if found else 1)
            finally:
                os._exit(9)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    found = bridge.ask(lambda store: store.get(run.run_id))
    assert found is not None
    assert found.status is RunStatus.CANCELLED


@needs_fork
async def test_what_a_forked_process_writes_is_there_when_its_parent_has_closed_the_file(
    bench: StoreBench, path: Path
) -> None:
    asked = Bridge(SqlRunStore(f"sqlite:///{path}.forked"))
    asked.ask(lambda store: store.get("nobody"))
    first, second = bench.draft(step("a")), bench.draft(step("a"))
    has_opened, may_write = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            asked.ask(lambda store: store.create(first.new))
            os.write(has_opened[1], b".")
            os.read(may_write[0], 1)
            asked.ask(lambda store: store.create(second.new))
            os._exit(0)
        finally:
            os._exit(9)
    await asyncio.to_thread(os.read, has_opened[0], 1)
    await asked.close()
    os.write(may_write[1], b".")
    _, status = await asyncio.to_thread(os.waitpid, child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    for draft in (first, second):
        assert asked.ask(lambda store, draft=draft: store.get(draft.run_id)) is not None
    await asked.close()


@needs_fork
async def test_a_process_may_fork_while_its_threads_write(
    bench: StoreBench, bridge: Bridge, pool: ThreadPoolExecutor
) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            bridge.ask(lambda store: store.create(bench.draft(step("a")).new))

    writing = [pool.submit(write) for _ in range(2)]
    ended: list[int] = []
    for _ in range(8):
        child = os.fork()
        if not child:
            signal.alarm(20)
            try:
                bridge.ask(lambda store: store.create(bench.draft(step("a")).new))
                os._exit(0)
            finally:
                os._exit(9)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        ended.append(os.waitstatus_to_exitcode(status))
    stop.set()
    for each in writing:
        await asyncio.wrap_future(each)

    assert ended == [0] * 8


async def test_who_waits_while_others_close_is_answered(
    bench: StoreBench, bridge: Bridge, pool: ThreadPoolExecutor
) -> None:
    run = await bench.create(step("a"))
    twin = await bench.twin()

    async with Busy(bench.store) as busy:
        closing_ = [asyncio.ensure_future(each.close()) for each in (bridge, bench.store, twin)]
        await turns()
        asking = pool.submit(bridge.ask, lambda store: store.get(run.run_id))
        await turns()
        busy.let_go()
        await asyncio.gather(*closing_)

    assert await asyncio.wrap_future(asking) is not None


def opened(path: Path) -> int:
    """How many files of a database this process has open."""
    files = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return sum(os.path.realpath(file).startswith(str(path)) for file in files)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="open files are not listed here"
)


@needs_proc
@pytest.mark.parametrize("is_busy", [False, True])
async def test_the_last_one_who_closes_has_the_file_closed(
    bench: StoreBench, bridge: Bridge, path: Path, is_busy: bool
) -> None:
    bridge.ask(lambda store: store.get("nobody"))
    assert opened(path) > 0

    if is_busy:
        async with Busy(bench.store):
            await bridge.close()
    else:
        await bridge.close()
    assert opened(path) > 0
    await bench.store.close()

    assert opened(path) == 0


@needs_proc
async def test_who_asks_is_the_last_one_to_close(
    bench: StoreBench, bridge: Bridge, path: Path
) -> None:
    bridge.ask(lambda store: store.get("nobody"))

    await bench.store.close()
    assert opened(path) > 0
    await bridge.close()

    assert opened(path) == 0


@needs_proc
async def test_who_closes_while_its_last_question_is_answered_has_the_file_closed(
    bench: StoreBench, bridge: Bridge, pool: ThreadPoolExecutor, path: Path
) -> None:
    busy, may_end = threading.Event(), threading.Event()

    def occupied(_session: Session) -> None:
        busy.set()
        may_end.wait(20)

    await bench.store.close()
    occupying = pool.submit(do, bridge, occupied)
    await asyncio.to_thread(busy.wait, 20)
    await bridge.close()
    may_end.set()
    await asyncio.wrap_future(occupying)

    async with asyncio.timeout(20):
        while opened(path):  # noqa: ASYNC110 - nobody could tell
            await asyncio.sleep(0.001)


@needs_proc
def test_a_file_that_nobody_asks_any_more_is_closed(path: Path) -> None:
    bridge = Bridge(SqlRunStore(f"sqlite:///{path}"))
    bridge.ask(lambda store: store.get("nobody"))
    assert opened(path) > 0

    del bridge
    gc.collect()

    assert opened(path) == 0
