"""Three schedulers, killed again and again for 200 virtual days, make one run of each tick."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from taskiq_flow import Pipeline, PipelineMiddleware
from taskiq_flow.model.records import NewRun, Ready
from taskiq_flow.scheduling import PipelineScheduler, create_interval_trigger
from taskiq_flow.storage import InMemoryStorageAdapter
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing import ManualClock
from tests.support.silent import SilentBroker

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
FIRST, DAYS = date(2026, 9, 20), 200  # to April: both changes, in both zones
BEGIN = datetime.combine(FIRST, time(), UTC)
SEEDS = range(1, 20 if os.environ.get("TASKIQ_FLOW_CHAOS") == "long" else 2)


class KilledError(BaseException):
    """The process of a scheduler is gone: nothing of it runs on, and nothing cleans up."""


class Process:
    """The scheduler that a call comes from, as the chaos sees it."""

    def __init__(self, scheduler: PipelineScheduler) -> None:
        self.scheduler, self.is_dead = scheduler, False


class Chaos:
    """Lets schedulers meet between any two calls to a store, and kills them there."""

    def __init__(self, seed: int) -> None:
        self.random, self.kills = random.Random(seed), Counter[str]()
        self.current: ContextVar[Process | None] = ContextVar("current", default=None)

    async def step(self, where: str) -> None:
        process = self.current.get()
        if process is None:
            return
        for _ in range(self.random.randrange(3)):
            await asyncio.sleep(0)
        if process.is_dead or self.random.random() < 0.03:
            self.kills[where] += not process.is_dead
            process.is_dead = True
            raise KilledError


class Jobs(InMemoryStorageAdapter):
    def __init__(self, chaos: Chaos) -> None:
        super().__init__()
        self.chaos = chaos

    async def get(self, key: str) -> Any | None:
        await self.chaos.step("read")
        return await super().get(key)

    async def replace(self, key: str, expected: Any, value: Any) -> bool:
        await self.chaos.step("before a job's state is written")
        answer = await super().replace(key, expected, value)
        await self.chaos.step("after a job's state was written")
        return answer


class Runs(MemoryRunStore):
    """A store that notes which ticks it made runs of."""

    def __init__(self, clock: ManualClock, chaos: Chaos) -> None:
        super().__init__(clock=clock)
        self.beside["schedules"] = Jobs(chaos)
        self.chaos, self.made = chaos, list[str]()

    async def create(
        self, new: NewRun, items: Mapping[int, Iterable[bytes]] | None = None
    ) -> tuple[Ready, ...]:
        await self.chaos.step("before the run is made")
        is_new = await self.get(new.run_id) is None
        ready = await super().create(new, items)
        if is_new and new.tick is not None:
            self.made.append(new.tick)
        await self.chaos.step("after the run was made")
        return ready


def local(day: date, at: time, zone: ZoneInfo) -> datetime:
    """A time of the day, by Debian's rule: skipped ones at the end of the gap, of two the first."""
    wanted = datetime.combine(day, at, zone)
    there = wanted.astimezone(UTC)
    while there.astimezone(zone).replace(tzinfo=None) != wanted.replace(tzinfo=None):
        wanted += timedelta(minutes=1)
        there = wanted.astimezone(UTC)
    return there


def expected_ticks() -> dict[str, list[datetime]]:
    """Found without any cron library."""
    days = [FIRST + timedelta(days=n) for n in range(-1, DAYS + 1)]
    half_hours = [BEGIN + timedelta(minutes=30 * n) for n in range(1, DAYS * 48 + 1)]
    return {
        "nightly": [local(day, time(2, 30), BERLIN) for day in days],
        "office": [
            local(day, time(hour, 15), NEW_YORK)
            for day in days
            if day.isoweekday() <= 5
            for hour in (6, 18)
        ],
        "even": [at for at in half_hours if at.astimezone(BERLIN).hour == 2],
        "interval": [BEGIN + timedelta(hours=35 * n) for n in range(1, DAYS * 24 // 35 + 1)],
    }


@pytest.mark.parametrize("seed", SEEDS)
async def test_each_tick_of_two_hundred_days_is_fired_exactly_once(seed: int) -> None:
    """Nightly times in skipped and repeated hours, even ones, weekdays elsewhere, an interval."""
    chaos, clock = Chaos(seed), ManualClock(BEGIN.timestamp())
    runs = Runs(clock, chaos)
    broker = SilentBroker().with_middlewares(PipelineMiddleware(store=runs))

    @broker.task
    async def report() -> None: ...

    def begin() -> Process:
        return Process(PipelineScheduler(broker, timezone=BERLIN, clock=clock))

    pipeline, how = Pipeline(broker, report), {"overlap": "allow", "catch_up": "all"}
    first = begin().scheduler
    await first.schedule(pipeline, "30 2 * * *", job_id="nightly", **how)
    await first.schedule(pipeline, "*/30 2 * * *", job_id="even", **how)
    await first.schedule(
        pipeline, "15 6,18 * * 1-5", job_id="office", timezone="America/New_York", **how
    )
    await first.schedule(
        pipeline, trigger=create_interval_trigger(hours=35), job_id="interval", **how
    )

    async def live(process: Process) -> float:
        chaos.current.set(process)
        try:
            return await process.scheduler.run_due()
        except KilledError:
            return clock() + chaos.random.uniform(0, 40 * 3600)  # when it is started again

    end = (BEGIN + timedelta(days=DAYS)).timestamp()
    team = {begin(): clock() for _ in range(3)}
    while clock() < end:
        clock.advance(max(0.0, min(end, *team.values()) - clock()))
        awake = [process for process, when in team.items() if when <= clock()]
        for process in [process for process in awake if process.is_dead]:
            awake[awake.index(process)] = begin()
            del team[process]
        whens = await asyncio.gather(*(asyncio.create_task(live(each)) for each in awake))
        # A timer is rarely early, and often late.
        late = [when + chaos.random.choice((0.0, 0.01, 2.0)) for when in whens]
        team.update(zip(awake, late, strict=True))
    clock.advance(60.0)
    await begin().scheduler.run_due()
    jobs = {job.job_id: job for job in await first.list_jobs()}

    made = Counter(runs.made)
    assert set(made.values()) == {1}
    for name, times in expected_ticks().items():
        wanted = [at for at in times if BEGIN.timestamp() < at.timestamp() <= end]
        ticks = sorted(tick.partition(":")[2] for tick in made if tick.startswith(f"{name}:"))
        assert ticks == [at.isoformat(timespec="milliseconds") for at in wanted]
        assert (jobs[name].fired, jobs[name].skipped, jobs[name].missed) == (len(wanted), 0, 0)
    # All moments of a tick were met by a kill.
    assert len(chaos.kills) == 5
    assert min(chaos.kills.values()) > 5
