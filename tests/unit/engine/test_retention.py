"""Ended runs past their time go, though nobody asks and other runs go on."""

import asyncio
from pathlib import Path

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineMiddleware, PipelineTrackingManager
from taskiq_flow.engine import retention
from taskiq_flow.model.records import RunFilter
from taskiq_flow.stores.sql import SqlRunStore
from taskiq_flow.testing import StoreBench, step
from taskiq_flow.testing.clock import ManualClock
from tests.integration.workers.harness import eventually


async def test_runs_past_their_retention_are_removed_while_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "FIRST_SECONDS", 0.0)
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    long_ago = ManualClock(1_000_000_000.0)
    async with StoreBench(lambda options, _: SqlRunStore(url, options, clock=long_ago)) as bench:
        ended = [await bench.create(step("a")) for _ in range(3)]
        going = await bench.create(step("a"))
        for run in ended:
            await run.run("a")

        cleaning = asyncio.create_task(retention.keep_clean(bench.store))

        async def is_clean() -> bool:
            page = await bench.store.list_runs(RunFilter())
            return [run.run_id for run in page.runs] == [going.run_id]

        await eventually(is_clean)
        cleaning.cancel()
        await asyncio.wait([cleaning])


async def test_a_process_with_a_database_does_so_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(retention, "EVERY_SECONDS", 0.05)
    broker = InMemoryBroker()
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    broker.add_middlewares(PipelineMiddleware(store=url, retention_seconds=0.2))

    @broker.task
    async def double(value: int) -> int:
        return value * 2

    task = await Pipeline(broker, double).kiq(1)
    await task.wait_result()
    tracking = PipelineTrackingManager().with_auto_storage(broker)

    async def is_gone() -> bool:
        return await tracking.get_status(task.task_id) is None

    await eventually(is_gone)
    await broker.shutdown()
