"""Operations of a SQLite store that share a transaction, and rows that it need not read again."""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskiq_flow.exceptions import BacklogFullError, DuplicatePipelineError
from taskiq_flow.model.records import (
    Done,
    Grant,
    Limit,
    Refusal,
    RefusalReason,
    Retry,
    RunFilter,
    RunStatus,
    SequenceValue,
    StepKind,
    StepStatus,
)
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.sql import SqlRunStore, statements
from taskiq_flow.stores.sql.session import Mode, Session
from taskiq_flow.stores.sql.sqlite_file import SqliteFile
from taskiq_flow.stores.sql.sqlite_session import SqliteSession
from taskiq_flow.stores.sql.writer import VALUES
from taskiq_flow.testing import StoreBench, step


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[StoreBench]:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    async with StoreBench(lambda options, clock: SqlRunStore(url, options, clock=clock)) as opened:
        yield opened


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many queries were made, and how many numbers of runs were taken."""
    counted: Counter[str] = Counter()

    def count(name: str, what: str) -> None:
        original = getattr(SqliteSession, name)

        def counting(self: SqliteSession, *args: Any, **values: Any) -> Any:
            counted[what] += 1
            return original(self, *args, **values)

        monkeypatch.setattr(SqliteSession, name, counting)

    count("rows", "queries")
    count("next_rid", "numbers")
    transact = SqliteFile._transact

    def counting(*args: Any) -> None:
        counted["transactions"] += 1
        transact(*args)

    monkeypatch.setattr(SqliteFile, "_transact", counting)
    return counted


async def test_a_run_of_one_step_begins_and_ends_without_a_query(
    bench: StoreBench, asked: Counter[str]
) -> None:
    run = await bench.create(step("a", sources=(-1,)), inputs={-1: b"1"})
    asked.clear()

    grant = await run.start("a")
    finished = await bench.store.finish(grant.address, grant.token, Done(b"2"), None)

    assert asked["queries"] == 0
    assert grant.values == (b"1",)
    assert finished.ended is RunStatus.COMPLETED
    assert await bench.store.values(run.run_id, [0]) == {0: b"2"}


async def test_runs_that_wait_together_are_stored_at_the_first_attempt(
    bench: StoreBench, asked: Counter[str]
) -> None:
    drafts = [bench.draft(step("a")) for _ in range(20)]

    await asyncio.gather(*(bench.store.create(draft.new) for draft in drafts))

    assert asked["numbers"] == 20


async def test_what_comes_up_in_consecutive_turns_of_the_event_loop_shares_a_transaction(
    bench: StoreBench, asked: Counter[str]
) -> None:
    async def create(turn: int) -> None:
        for _ in range(turn):
            await asyncio.sleep(0)
        await bench.store.create(bench.draft(step("a")).new)

    await create(0)
    asked.clear()

    await asyncio.gather(*(create(number // 2) for number in range(20)))

    assert asked["numbers"] == 20
    assert asked["transactions"] == 1


async def test_rows_are_written_in_their_order_whichever_of_their_columns_are_null(
    bench: StoreBench,
) -> None:
    run = await bench.create(step("a"))

    def write(session: Session) -> None:
        row = session.row(statements.RUN, run_id=run.run_id)
        assert row is not None
        rid = row[0]
        rows = [(rid, 0, b"1", None), (rid, 0, None, 7), (rid, 0, b"2", None)]
        rows += [(rid, 1, b"3", None), (rid, 1, None, 7)]
        session.writes[VALUES] += rows

    assert isinstance(bench.store, SqlRunStore)
    await bench.store._do(write, Mode.WRITE)

    assert await bench.store.values(run.run_id, [0, 1]) == {0: b"2", 1: SequenceValue(1, 7)}


async def test_a_run_that_is_read_again_takes_one_query_for_all_of_its_rows(
    bench: StoreBench, asked: Counter[str]
) -> None:
    run = await bench.create(step("a"))
    other = await bench.open()
    await other.cancel((await bench.create(step("b"))).run_id, "somebody else writes")
    asked.clear()

    await run.start("a")

    assert asked["queries"] == 1


async def test_what_a_twin_writes_makes_nothing_forgotten(
    bench: StoreBench, asked: Counter[str]
) -> None:
    """Leases are renewed by a twin, once a second."""
    run = await bench.create(step("a", sources=(-1,)), inputs={-1: b"1"})
    twin = await bench.twin()
    await twin.cancel((await bench.create(step("b"))).run_id, "of the same process")
    asked.clear()

    await run.start("a")

    assert asked["queries"] == 0


async def test_twins_share_a_thread_which_ends_with_the_last_of_them(bench: StoreBench) -> None:
    def threads() -> list[threading.Thread]:
        found = [each for each in threading.enumerate() if each.name == "taskiq-flow-sqlite"]
        return [each for each in found if each not in before]

    await bench.store.close()
    before = [each for each in threading.enumerate() if each.name == "taskiq-flow-sqlite"]
    twin = bench.store.twin()

    await bench.store.open()
    await twin.open()
    [shared] = threads()
    await bench.store.close()
    await twin.workers()
    assert shared.is_alive()
    await twin.close()
    shared.join(20)
    assert not shared.is_alive()
    await bench.store.open()

    assert len(threads()) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("twin", [True, False], ids=["a_twin", "the_store_itself"])
async def test_a_forked_process_has_a_thread_of_its_own(bench: StoreBench, twin: bool) -> None:
    run = await bench.create(step("a"))
    child = os.fork()
    if not child:
        try:
            store = bench.store.twin() if twin else bench.store
            os._exit(asyncio.run(_knows(store, run.run_id)))
        finally:
            os._exit(9)

    _, status = await asyncio.to_thread(os.waitpid, child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert await run.status() is RunStatus.PENDING


async def _knows(store: RunStore, run_id: str) -> int:
    async with asyncio.timeout(20):
        await store.open()
        return 0 if await store.get(run_id) is not None else 1


@pytest.mark.parametrize("is_running", [False, True])
async def test_what_another_connection_did_to_a_run_is_seen_before_it_goes_on(
    bench: StoreBench, is_running: bool
) -> None:
    """The rows of the run are known here, and are not true any more."""
    run = await bench.create(step("a"))
    other = await bench.open()
    grant = await run.start("a") if is_running else None

    if grant is None:
        await other.start(run.at("a"), "theirs")
        answer = await run.try_start("a")
        assert answer == Refusal(RefusalReason.RUNNING)
    else:
        await other.cancel(run.run_id, "enough")
        late = await bench.store.finish(grant.address, grant.token, Done(b"1"), None)
        assert not late.recorded
        assert await run.status() is RunStatus.CANCELLED


async def test_what_is_known_of_runs_outlasts_a_look_for_what_is_due(
    bench: StoreBench, asked: Counter[str]
) -> None:
    run = await bench.create(step("a", sources=(-1,)), inputs={-1: b"1"})
    await bench.store.due(["somebody else's"])
    asked.clear()

    await run.start("a")

    assert asked["queries"] == 0


async def test_a_step_beside_the_one_that_was_begun_still_hears_its_event(
    bench: StoreBench,
) -> None:
    run = await bench.create(step("a"), step("e", kind=StepKind.EVENT, event="paid"))
    await run.start("a")

    await bench.store.send_event(run.run_id, "paid", b"1")

    assert (await run.step("e")).status is StepStatus.COMPLETED


async def test_an_operation_that_fails_half_way_changes_nothing_of_a_run(
    bench: StoreBench,
) -> None:
    run = await bench.create(step("a"))
    grant = await run.start("a")
    delay: Any = "soon"

    with pytest.raises(TypeError):
        await bench.store.finish(grant.address, grant.token, Retry(b"!", delay), None)

    finished = await bench.store.finish(grant.address, grant.token, Done(b"1"), None)
    assert finished.recorded
    assert await run.status() is RunStatus.COMPLETED


async def test_of_starts_of_one_slot_that_wait_together_one_is_granted(bench: StoreBench) -> None:
    run = await bench.create(step("a"))

    answers = await asyncio.gather(*(run.try_start("a") for _ in range(5)))

    assert [type(answer) for answer in answers].count(Grant) == 1


async def test_a_cancel_that_waits_together_with_a_start_is_obeyed(bench: StoreBench) -> None:
    """A pending task that was cancelled never runs."""
    runs = [await bench.create(step("a")) for _ in range(5)]

    cancelled = [bench.store.cancel(run.run_id, "not needed") for run in runs]
    starts = [run.try_start("a") for run in runs]
    answers = await asyncio.gather(*cancelled, *starts)

    assert answers[:5] == [True] * 5
    assert answers[5:] == [Refusal(RefusalReason.ENDED)] * 5


async def test_who_asks_for_all_runs_sees_those_that_were_stored_right_before(
    bench: StoreBench,
) -> None:
    await bench.create(step("a"))
    drafts = [bench.draft(step("a")) for _ in range(5)]

    creating = [bench.store.create(draft.new) for draft in drafts]
    *_, count = await asyncio.gather(*creating, bench.store.count_runs(RunFilter()))

    assert count == 6


async def test_runs_that_are_stored_together_do_not_pass_the_bound_of_their_queue(
    bench: StoreBench,
) -> None:
    drafts = [bench.draft(step("a"), backlog=("small", 2)) for _ in range(5)]

    done = await asyncio.gather(
        *(bench.store.create(draft.new) for draft in drafts), return_exceptions=True
    )

    assert [isinstance(each, BacklogFullError) for each in done] == [False] * 2 + [True] * 3


async def test_starts_that_wait_together_keep_to_a_limit(bench: StoreBench) -> None:
    one = Limit("one", most=1)
    runs = [await bench.create(step("a", limits=(one,))) for _ in range(5)]

    answers = await asyncio.gather(*(run.try_start("a") for run in runs))

    assert [type(answer) for answer in answers].count(Grant) == 1


async def test_places_that_are_given_back_together_go_to_different_runs(
    bench: StoreBench,
) -> None:
    two = Limit("two", most=2)
    runs = [await bench.create(step("a", limits=(two,))) for _ in range(4)]
    grants = [await run.start("a") for run in runs[:2]]
    refused = [await run.try_start("a") for run in runs[2:]]

    ends = [bench.store.finish(each.address, each.token, Done(b"1"), None) for each in grants]
    finished = await asyncio.gather(*ends)

    assert [type(answer) for answer in refused] == [Refusal, Refusal]
    freed = [ready.address.run_id for each in finished for ready in each.ready]
    assert sorted(freed) == sorted(run.run_id for run in runs[2:])


async def test_a_run_that_is_refused_is_no_trouble_to_what_waits_with_it(
    bench: StoreBench,
) -> None:
    """All are done again, each by itself: nothing is there twice, and nothing is missing."""
    begun = [await bench.create(step("a")) for _ in range(10)]
    known = await bench.create(step("a"), key="taken")
    fresh = [bench.draft(step("a"), key="taken" if n == 4 else None) for n in range(10)]

    done = await asyncio.gather(
        *(run.start("a") for run in begun),
        *(bench.store.create(draft.new) for draft in fresh),
        return_exceptions=True,
    )

    failed = [number for number, each in enumerate(done) if isinstance(each, Exception)]
    assert failed == [14]
    assert {await run.status() for run in begun} == {RunStatus.RUNNING}
    assert await known.status() is RunStatus.PENDING
    assert [len(await bench.store.events(run.run_id)) for run in begun] == [3] * 10


async def test_a_run_that_is_refused_is_told_so_though_the_next_one_looks_at_all_runs_first(
    bench: StoreBench,
) -> None:
    """Who looks beyond its own run writes what others left; a conflict there is not its own."""
    await bench.create(step("a"), key="taken")
    fine, refused = bench.draft(step("a")), bench.draft(step("a"), key="taken")
    looks = bench.draft(step("a"), backlog=("small", 2))

    done = await asyncio.gather(
        *(bench.store.create(draft.new) for draft in (fine, refused, looks)),
        return_exceptions=True,
    )

    assert [isinstance(each, DuplicatePipelineError) for each in done] == [False, True, False]
    stored = [await bench.store.get(draft.run_id) for draft in (fine, refused, looks)]
    assert [found is not None for found in stored] == [True, False, True]


@pytest.mark.parametrize("looks", [False, True])
async def test_nothing_is_written_of_an_operation_that_fails_after_it_left_rows(
    bench: StoreBench, looks: bool
) -> None:
    run, other = await bench.create(step("a")), await bench.create(step("b"))

    def fail(session: Session) -> None:
        row = session.row(statements.RUN, run_id=run.run_id)
        assert row is not None
        session.writes[VALUES].append((row[0], 0, b"1", None))
        if looks:
            session.catch_up()
        raise ValueError

    assert isinstance(bench.store, SqlRunStore)
    failing = bench.store._do(fail, Mode.WRITE, run.run_id)
    answers = await asyncio.gather(other.start("b"), failing, return_exceptions=True)

    assert [type(answer) for answer in answers] == [Grant, ValueError]
    assert await bench.store.values(run.run_id, [0]) == {}
    assert await other.status() is RunStatus.RUNNING
