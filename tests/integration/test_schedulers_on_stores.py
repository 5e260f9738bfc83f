"""Several schedulers on one store of each kind: each tick is one run, and nothing is left over."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taskiq_flow import Pipeline, PipelineMiddleware
from taskiq_flow.engine.client import RunClient
from taskiq_flow.model.records import RunFilter
from taskiq_flow.scheduling import PipelineScheduler
from taskiq_flow.scheduling.book import PURPOSE
from taskiq_flow.storage.beside import adapter_beside
from taskiq_flow.testing import ManualClock
from tests.support.silent import SilentBroker

TICKS = 5


async def report(word: str) -> None: ...


class Team:
    """Schedulers with brokers and connections of their own, as processes have them."""

    def __init__(self, url: str, namespace: str) -> None:
        self.clock = ManualClock(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp())
        self.members = [self._member(url, namespace) for _ in range(4)]

    def _member(self, url: str, namespace: str) -> PipelineScheduler:
        broker = SilentBroker()
        broker.add_middlewares(PipelineMiddleware(store=url, namespace=namespace))
        broker.register_task(report, task_name="report")
        return PipelineScheduler(broker, clock=self.clock)

    @property
    def pipeline(self) -> Pipeline[None]:
        broker = self.members[0].broker
        task = broker.find_task("report")
        assert task is not None
        return Pipeline(broker, task)

    async def run_due(self) -> None:
        await asyncio.gather(*(member.run_due() for member in self.members))


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
async def team(
    request: pytest.FixtureRequest, tmp_path: Path, namespace: str
) -> AsyncIterator[Team]:
    kind = str(request.param)
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    if kind != "sqlite":
        url = str(request.getfixturevalue(f"{kind}_url"))
    team = Team(url, namespace)
    for member in team.members:
        await member.broker.startup()
    yield team
    for member in team.members:
        await member.shutdown()
        await member.broker.shutdown()


async def test_of_schedulers_that_see_a_tick_at_once_one_makes_its_run(team: Team) -> None:
    first, *_, last = team.members
    job = await first.schedule_interval(
        team.pipeline, minutes=1, args=["x"], overlap="allow", catch_up="all", job_id="each"
    )
    single = await first.schedule(team.pipeline, "* * * * *", ["y"], job_id="single")
    for _ in range(TICKS):
        team.clock.advance(60.0)
        await team.run_due()
    team.clock.advance(5.0)  # whose claim was not given back is looked at again
    await team.run_due()

    shown, skipping = await last.get_job(job), await last.get_job(single)
    store = RunClient.of(last.broker).store
    runs = (await store.list_runs(RunFilter(tag="schedule:each"))).runs
    singles = (await store.list_runs(RunFilter(tag="schedule:single"))).runs

    assert (shown.fired, shown.skipped, shown.missed, shown.waiting) == (TICKS, 0, 0, 0)
    assert len({run.run_id for run in runs}) == TICKS
    # Its first run never ends here.
    assert (skipping.fired, skipping.skipped, len(singles)) == (1, TICKS - 1, 1)


async def test_schedulers_that_start_together_store_a_job_once(team: Team) -> None:
    async def declare(member: PipelineScheduler, word: str) -> None:
        task = member.broker.find_task("report")
        await member.schedule(task, "0 * * * *", [word], job_id="same", label=f"of {word}")

    words = ["old", "old", "new", "new"]
    await asyncio.gather(*map(declare, team.members, words))
    (job,) = await team.members[0].list_jobs()
    run = await team.members[-1].run_now(job)

    assert job.label in ("of old", "of new")
    stored = await RunClient.of(team.members[0].broker).store.values(run.task_id, [-1])
    assert stored[-1] == f'"{job.label[3:]}"'.encode()
    await team.members[1].remove_job(job)
    beside = adapter_beside(RunClient.of(team.members[0].broker).store, purpose=PURPOSE)
    assert await beside.keys() == ["revision"]
    await beside.close()
