"""What the overview counts, and what it asks the store for it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineMiddleware
from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations import Operations
from taskiq_flow.operations.overview import make_overview
from taskiq_flow.operations.previews import Previewer
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.stores.sql.sqlite_session import SqliteSession
from taskiq_flow.testing import ManualClock, StoreBench, step


async def test_runs_that_ended_at_any_time_are_counted_once() -> None:
    """One in 1970, and one in a future that some clock was in."""
    clock = ManualClock(now=1.0)
    async with StoreBench(lambda options, _: MemoryRunStore(options, clock=clock)) as bench:
        for seconds in (0.0, 1e11):
            clock.advance(seconds)
            run = await bench.create(step("a"))
            await run.run("a")

        overview = await make_overview(bench.store, Previewer(), hours=1, buckets=4)

    assert overview.counts[RunStatus.COMPLETED] == 2
    assert sum(bucket.completed for bucket in overview.buckets) == 0


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[InMemoryBroker]:
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=f"sqlite:///{tmp_path / 'runs.db'}"))
    await broker.startup()
    yield broker
    await broker.shutdown()


async def test_many_open_runs_are_read_with_as_few_questions_as_one(
    broker: InMemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    rows = SqliteSession.rows

    def counted(self: SqliteSession, statement: Any, **values: Any) -> Any:
        asked.append(statement)
        return rows(self, statement, **values)

    monkeypatch.setattr(SqliteSession, "rows", counted)
    waiting = Pipeline(broker).wait_for("go")
    counts: list[int] = []
    async with await Operations.open(broker=broker) as operations:
        for more in (1, 11):
            runs = [await waiting.kiq() for _ in range(more)]
            asked.clear()
            overview = await make_overview(operations.store, Previewer(), hours=1, buckets=4)
            graphs = await operations.graphs([run.task_id for run in runs])
            counts.append(len(asked))
            assert len(graphs) == more

    assert overview.counts[RunStatus.PENDING] + overview.counts[RunStatus.RUNNING] == 12
    assert counts[1] < counts[0] + 10  # the engine may ask something meanwhile
