"""Every listing and count is answered by an index, whatever a database knows of its tables."""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Executable, text
from sqlalchemy.sql import ClauseElement

from benchmarks.bulk import Copy, copy_run
from taskiq_flow.model.records import Failed, RunFilter
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.sql import (
    SqlRunStore,
    listings,
    postgres,
    queries,
    sqlite_session,
    statements,
    sums,
)
from taskiq_flow.stores.sql.session import Mode
from taskiq_flow.stores.sql.sqlite_session import DIALECT
from taskiq_flow.testing import StoreBench, step
from taskiq_flow.testing.store_bench import DONE
from tests.support.ways import WAYS, fields_of
from tools.servers import PostgresServer

ALIKE, STORED = 300, 2000

FORGET_STATISTICS = """
    DELETE FROM pg_statistic WHERE starelid::regclass::text LIKE 'taskiq_flow_%';
    UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname LIKE 'taskiq_flow_%';
"""


async def fill_alike(bench: StoreBench) -> None:
    """Store runs in which nothing differs but their age."""
    run = await bench.create(step("a"))
    await run.run("a", DONE)
    copies = [Copy(f"alike {n}", "n0", "k0", ("t0",), bench.clock() + n) for n in range(ALIKE)]
    await copy_run(bench.store, run.run_id, copies)


async def fill(bench: StoreBench) -> None:
    """Store as many completed, failed and cancelled runs, of all kinds."""
    for remainder, outcome in enumerate((DONE, Failed(b"error"), None)):
        run = await bench.create(step("a"))
        await (bench.store.cancel(run.run_id, "no") if outcome is None else run.run("a", outcome))
        copies = [
            Copy(f"run {n}", f"n{n % 50}", f"k{n % 5}", (f"t{n % 50}",), bench.clock() + n)
            for n in range(remainder, STORED, 3)
        ]
        await copy_run(bench.store, run.run_id, copies)


# -- PostgreSQL


class Planner:
    """A connection as the store has it: a statement is planned when it is first asked for."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._known: dict[ClauseElement, str] = {}

    @classmethod
    async def on(cls, url: str) -> "Planner":
        connection = await asyncpg.connect(url)
        await connection.execute(postgres.SESSION)
        return cls(connection)

    async def close(self) -> None:
        await self.connection.close()

    async def plan_of(self, statement: ClauseElement) -> str:
        compiled = postgres.compile_statement(statement)
        name = self._known.get(statement)
        if name is None:
            name = self._known[statement] = f"asked_{len(self._known)}"
            await self.connection.execute(f"PREPARE {name} AS {compiled.sql}")
        lists = {"lows", "highs", "run_ids"}
        given = ", ".join("'{1}'" if one in lists else "'1'" for one in compiled.names)
        plan = await self.connection.fetch(f"EXPLAIN EXECUTE {name}({given})")
        return "\n".join(row[0] for row in plan)


async def assert_all_is_found_by_index(planner: Planner, *, knows_size: bool = True) -> None:
    for which, way, index in WAYS:
        asked = fields_of(which)
        if not way.is_by_age and not knows_size:
            continue  # in a small table every index is as good
        for goes_on in (False, True):
            told = await planner.plan_of(listings.listing(asked, way, goes_on=goes_on))
            assert re.search(f"using taskiq_flow_{index} on", told), f"{which} {way}\n{told}"
            assert "Seq Scan" not in told
            assert (" Sort " in told) == (not way.is_by_age), told
        told = await planner.plan_of(listings.counting(asked, way))
        assert " using taskiq_flow_" in told
        assert "Seq Scan" not in told
        if way.is_by_age:
            assert re.search(f"using taskiq_flow_{index} on", told), f"{which} {way}\n{told}"
            own_fields = asked & {*way.split(), "since", "until"}
            told = await planner.plan_of(listings.reaching(own_fields, way, goes_on=True))
            assert re.search(f"using taskiq_flow_{index} on", told), f"{which} {way}\n{told}"
            assert "Seq Scan" not in told
            assert " Sort " not in told
    if not knows_size:
        return
    ends = await planner.plan_of(sums.ENDED_BETWEEN["postgresql"])
    assert ends.count("Index Only Scan using taskiq_flow_run_outcome") == 3, ends
    assert ends.count("(ended_at >= bucket.low) AND (ended_at < bucket.high)") == 3, ends
    assert "Filter" not in ends
    steps = await planner.plan_of(sums.STEP_TOTALS["postgresql"])
    assert "Index Scan Backward using taskiq_flow_run_ended" in steps, steps
    assert "Index Scan using taskiq_flow_step_pkey" in steps, steps
    assert "Index Cond: (rid = few.rid)" in steps, steps
    assert "Seq Scan" not in steps


async def test_postgres_finds_all_by_index_whatever_it_knows_of_its_tables(
    own_postgres: PostgresServer,
) -> None:
    def make(given: StoreOptions, clock: Callable[[], float]) -> SqlRunStore:
        return SqlRunStore(own_postgres.url, given, clock=clock)

    async with StoreBench(make) as bench:
        await bench.store.open()
        early = await Planner.on(own_postgres.url)
        await assert_all_is_found_by_index(early, knows_size=False)
        await fill_alike(bench)
        # Planned for empty tables, then for what nobody has looked at yet, for runs that were
        # all alike, for what is really there, and for many of which nothing is known.
        await assert_all_is_found_by_index(early, knows_size=False)
        planner = await Planner.on(own_postgres.url)
        await assert_all_is_found_by_index(planner, knows_size=False)
        await planner.connection.execute("ANALYZE")
        await fill(bench)
        await assert_all_is_found_by_index(planner)
        await planner.connection.execute("ANALYZE")
        await assert_all_is_found_by_index(planner)
        await planner.connection.execute(FORGET_STATISTICS)
        ignorant = await Planner.on(own_postgres.url)
        await assert_all_is_found_by_index(ignorant)
        await asyncio.gather(early.close(), planner.close(), ignorant.close())


async def test_plans_that_were_made_for_empty_tables_are_made_anew(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(given: StoreOptions, clock: Callable[[], float]) -> SqlRunStore:
        return SqlRunStore(own_postgres.url, given, clock=clock)

    async with StoreBench(make) as bench:
        first = await used_plan(bench)
        await fill(bench)
        same = await used_plan(bench)
        monkeypatch.setattr(postgres, "PLANS_SECONDS", 0.0)
        fresh = await used_plan(bench)

    assert same == first, "the server made a new one by itself: this test shows nothing"
    assert fresh != first


async def used_plan(bench: StoreBench) -> str:
    """Ask for a page, and how the connection that was asked has planned to find it."""

    def ask(session: Any) -> str:
        found = listings.list_runs(session, RunFilter(), None, 50)
        assert found is not None
        named = text("SELECT name FROM pg_prepared_statements WHERE statement LIKE :like")
        (name,) = session.rows(named, like="%FROM taskiq_flow_run%ORDER BY%created_at DESC%")[0]
        return str(session.rows(text(f"EXPLAIN EXECUTE \"{name}\"('1', '1')")))

    gate: Any = vars(bench.store)["_gate"]
    return await gate.run(ask, Mode.READ)


# -- SQLite


async def test_sqlite_finds_all_by_index_whatever_it_knows_of_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    def make(given: StoreOptions, clock: Callable[[], float]) -> SqlRunStore:
        return SqlRunStore(f"sqlite:///{path}", given, clock=clock)

    async with StoreBench(make) as bench:
        await bench.store.open()
        with closing(sqlite3.connect(path)) as file:
            assert_all_is_found_by_index_in(file)
        await fill_alike(bench)
        with closing(sqlite3.connect(path)) as file:
            file.execute("ANALYZE")
        await fill(bench)
        with closing(sqlite3.connect(path)) as file:
            assert_all_is_found_by_index_in(file)


def assert_all_is_found_by_index_in(file: sqlite3.Connection) -> None:
    for which, way, index in WAYS:
        asked = fields_of(which)
        for goes_on in (False, True):
            told = plan_of(file, listings.listing(asked, way, goes_on=goes_on))
            assert re.search(rf" INDEX taskiq_flow_{index} \(", told), f"{which} {way} {told}"
            assert "SCAN taskiq_flow" not in told
            assert ("TEMP B-TREE" in told) == (not way.is_by_age)
        told = plan_of(file, listings.counting(asked, way))
        assert "SEARCH taskiq_flow" in told
        assert "SCAN taskiq_flow" not in told
        if way.is_by_age:
            assert f" INDEX taskiq_flow_{index} (" in told
            assert "TEMP B-TREE" not in told
            own = asked & {*way.split(), "since", "until"}
            told = plan_of(file, listings.reaching(own, way, goes_on=True))
            assert re.search(rf" COVERING INDEX taskiq_flow_{index} \(", told), told
            assert "TEMP B-TREE" not in told
    ends = plan_of(file, sums.ENDED_BETWEEN["sqlite"])
    assert ends.count("COVERING INDEX taskiq_flow_run_outcome") == 3, ends
    steps = plan_of(file, sums.STEP_TOTALS["sqlite"])
    assert "INDEX taskiq_flow_run_ended" in steps, steps
    assert "SEARCH step USING PRIMARY KEY (rid=?)" in steps, steps
    assert "SCAN taskiq_flow" not in ends + steps


def plan_of(file: sqlite3.Connection, statement: ClauseElement) -> str:
    compiled = sqlite_session.compile_statement(statement)
    plan = file.execute(f"EXPLAIN QUERY PLAN {compiled.sql}", [1] * len(compiled.names))
    return " / ".join(row[3] for row in plan)


async def test_sqlite_looks_up_each_row_that_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with StoreBench(lambda given, _: SqlRunStore(f"sqlite:///{path}", given)) as bench:
        await bench.store.open()
    with closing(sqlite3.connect(path)) as file:
        plans = [(name, plan_of(file, statement)) for name, statement in of_lists()]

    assert {"RUN_STATUSES", "DUE_PLACES", "RUNS_WITH_PLANS", "FORGET"} <= {
        name for name, _ in plans
    }
    assert [f"{name}: {plan}" for name, plan in plans if "SCAN taskiq_flow" in plan] == []


def of_lists() -> Iterator[tuple[str, ClauseElement]]:
    """The statements that are told a list of keys."""
    for name, found in (*vars(queries).items(), *vars(statements).items()):
        for each in found if isinstance(found, tuple) else (found,):
            if not isinstance(each, Executable) or not isinstance(each, ClauseElement):
                continue
            if "json_each" in str(each.compile(dialect=DIALECT)):
                yield name, each
