"""How many at once: of a map, of a run, of a process, and of all runs and workers together."""

import asyncio
import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Limit, PipelineMiddleware, limit, pipeline_task
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.limits import parse_rate
from taskiq_flow.optimization.parallel import max_parallel_tasks, set_max_parallel_tasks
from taskiq_flow.pipeline import DataflowPipeline, Pipeline


class Gauge:
    """Counts how many calls run at once; the first ones last until so many do as are expected."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.now = self.peak = self.calls = 0
        self._reached = asyncio.Event()

    async def __call__(self) -> None:
        self.now += 1
        self.calls += 1
        self.peak = max(self.peak, self.now)
        if self.peak >= self.expected:
            self._reached.set()
        async with asyncio.timeout(30):
            await self._reached.wait()
        # One too many gets every chance to begin: a store in memory needs some turns of the loop.
        for _ in range(200):
            await asyncio.sleep(0)
        self.now -= 1


@pytest.fixture
def broker() -> InMemoryBroker:
    return InMemoryBroker()


@pytest.fixture
def no_default() -> Iterator[None]:
    yield
    set_max_parallel_tasks(None)


async def test_a_limit_holds_over_all_runs_and_tasks_that_name_its_key(
    broker: InMemoryBroker,
) -> None:
    gauge = Gauge(2)
    api = limit(key="api", max=2)

    @broker.task
    @pipeline_task(limit=api)
    async def call(value: int) -> int:
        await gauge()
        return value

    @broker.task
    @pipeline_task(limit=[api])
    async def call_too(value: int) -> int:
        await gauge()
        return value

    started = [await Pipeline(broker, task).kiq(1) for task in [call, call_too] * 4]
    for task in started:
        assert (await task.wait_result(timeout=60)).return_value == 1

    assert (gauge.peak, gauge.calls) == (2, 8)


async def test_each_item_of_a_map_counts(broker: InMemoryBroker) -> None:
    gauge = Gauge(3)

    @broker.task
    @pipeline_task(limit=limit(key="api", max=3))
    async def call(value: int) -> int:
        await gauge()
        return value

    runs = [await Pipeline(broker).map(call, range(6)).kiq() for _ in range(2)]
    for run in runs:
        assert (await run.wait_result(timeout=60)).return_value == list(range(6))

    assert (gauge.peak, gauge.calls) == (3, 12)


async def test_the_place_of_a_cancelled_step_is_free_as_soon_as_it_has_stopped(
    broker: InMemoryBroker,
) -> None:
    broker.add_middlewares(PipelineMiddleware(lease_seconds=300))
    begun = asyncio.Event()

    @broker.task
    @pipeline_task(limit=limit(key="api", max=1))
    async def call(forever: bool) -> bool:
        begun.set()
        if forever:
            await asyncio.Event().wait()
        return forever

    first = await Pipeline(broker, call).kiq(True)
    await begun.wait()
    second = await Pipeline(broker, call).kiq(False)
    await first.cancel()

    assert (await second.wait_result(timeout=60)).return_value is False
    await broker.shutdown()


async def test_a_thread_that_goes_on_after_a_cancel_keeps_its_place_until_it_ends(
    broker: InMemoryBroker,
) -> None:
    broker.add_middlewares(PipelineMiddleware(lease_seconds=0.4))
    begun, cancelled, other_began = threading.Event(), threading.Event(), threading.Event()
    saw_other: list[bool] = []

    @broker.task
    @pipeline_task(limit=limit(key="api", max=1))
    def call(first: bool) -> bool:
        if first:
            begun.set()
            cancelled.wait(30)
            saw_other.append(other_began.wait(2.5))  # some leases, and looks of who waits
        else:
            other_began.set()
        return first

    first = await Pipeline(broker, call).kiq(True)
    await asyncio.to_thread(begun.wait, 30)
    second = await Pipeline(broker, call).kiq(False)
    await first.cancel()
    cancelled.set()

    assert (await second.wait_result(timeout=60)).return_value is False
    assert saw_other == [False]
    await broker.shutdown()


async def test_a_pipeline_may_put_a_limit_on_all_of_its_steps(broker: InMemoryBroker) -> None:
    gauge = Gauge(1)

    @broker.task
    async def left(x: int) -> int:
        await gauge()
        return x

    @broker.task
    async def right(x: int) -> int:
        await gauge()
        return -x

    pipeline = DataflowPipeline(broker, [left, right]).with_limit(key="one", max=1)
    runs = [await pipeline.kiq(x=number) for number in range(2)]
    results = [(await run.wait_result(timeout=60)).return_value for run in runs]

    assert results == [{"left": 0, "right": 0}, {"left": 1, "right": -1}]
    assert (gauge.peak, gauge.calls) == (1, 4)


async def test_a_rate_spaces_the_starts_of_a_task(broker: InMemoryBroker) -> None:
    at: list[float] = []

    @broker.task
    @pipeline_task(rate="10/s")
    async def call(value: int) -> int:
        at.append(asyncio.get_running_loop().time())
        return value

    run = await Pipeline(broker).map(call, range(5)).kiq()

    assert (await run.wait_result(timeout=60)).return_value == list(range(5))
    # The clock of the store says when a start may be; ours sees it a little later, now and then.
    assert at[-1] - at[0] >= 0.4 - 0.05


async def test_the_strictest_of_several_limits_of_one_key_counts(broker: InMemoryBroker) -> None:
    @broker.task
    @pipeline_task(limit=limit(key="api", max=5, rate="1/s"), rate="100/m")
    async def call(value: int) -> int:
        return value

    pipeline = Pipeline(broker, call).with_limit(limit(key="api", max=2, rate="2/s"))
    run = await pipeline.kiq(1)
    plan = await RunClient.of(broker).results.plan(run.task_id)

    assert plan.steps[0].limits == (
        Limit("api", most=2, per_second=1.0),
        Limit(f"task:{call.task_name}", per_second=100 / 60),
    )


async def test_a_limited_map_has_no_more_slots_than_may_work(broker: InMemoryBroker) -> None:
    @broker.task
    @pipeline_task(limit=limit(key="api", max=3))
    async def few(value: int) -> int:
        return value

    @broker.task
    @pipeline_task(rate="2/s")
    async def slow(value: int) -> int:
        return value

    run = await Pipeline(broker).map(few, []).map(slow).kiq()
    plan = await RunClient.of(broker).results.plan(run.task_id)

    assert [step.map and step.map.max_parallel for step in plan.steps] == [3, 20]


@pytest.mark.parametrize("most", [1, 3])
async def test_max_parallel_bounds_the_items_of_a_map(broker: InMemoryBroker, most: int) -> None:
    gauge = Gauge(most)

    @broker.task
    async def call(value: int) -> int:
        await gauge()
        return value

    run = await Pipeline(broker).map(call, range(8), max_parallel=most).kiq()
    await run.wait_result(timeout=60)

    assert (gauge.peak, gauge.calls) == (most, 8)


async def test_max_parallel_of_a_run_bounds_all_of_its_steps_and_items(
    broker: InMemoryBroker,
) -> None:
    gauge = Gauge(2)

    @broker.task
    async def call(value: int) -> int:
        await gauge()
        return value

    @broker.task
    async def call_all(values: list[int]) -> int:
        await gauge()
        return len(values)

    pipeline = Pipeline(broker, max_parallel=2).map(call, range(6)).group([call_all] * 4)
    result = await (await pipeline.kiq()).wait_result(timeout=60)

    assert result.return_value == [6] * 4
    assert (gauge.peak, gauge.calls) == (2, 10)


@pytest.mark.usefixtures("no_default")
class TestTheProcess:
    """`set_max_parallel_tasks` speaks for one process, and for the runs that it starts."""

    async def test_it_works_on_no_more_steps_of_any_runs_than_it_may(
        self, broker: InMemoryBroker
    ) -> None:
        gauge = Gauge(3)

        @broker.task
        async def call(value: int) -> int:
            await gauge()
            return value

        set_max_parallel_tasks(3)
        runs = [await Pipeline(broker).map(call, range(4)).kiq() for _ in range(3)]
        for run in runs:
            await run.wait_result(timeout=60)

        assert (gauge.peak, gauge.calls) == (3, 12)

    @pytest.mark.parametrize(("process", "own", "carried"), [(2, 5, 2), (5, 2, 2), (None, 3, 3)])
    async def test_a_run_carries_the_lowest_number(
        self, broker: InMemoryBroker, process: int | None, own: int, carried: int
    ) -> None:
        gauge = Gauge(carried)

        @broker.task
        async def call(value: int) -> int:
            await gauge()
            return value

        set_max_parallel_tasks(process)
        run = await Pipeline(broker, max_parallel=own).map(call, range(12)).kiq()
        set_max_parallel_tasks(None)
        await run.wait_result(timeout=60)

        assert gauge.peak == carried

    async def test_raising_and_removing_it_lets_those_go_that_wait(
        self, broker: InMemoryBroker
    ) -> None:
        begun, go = asyncio.Queue[int](), asyncio.Event()

        @broker.task
        async def call(value: int) -> int:
            begun.put_nowait(value)
            await go.wait()
            return value

        pipeline = Pipeline(broker, call)
        set_max_parallel_tasks(1)
        runs = [await pipeline.kiq(number) for number in range(4)]
        await begun.get()
        set_max_parallel_tasks(2)
        await begun.get()
        assert begun.empty()
        set_max_parallel_tasks(None)
        await begun.get()
        await begun.get()
        go.set()

        assert [(await r.wait_result(timeout=60)).return_value for r in runs] == [0, 1, 2, 3]

    def test_what_is_set_can_be_read_and_removed(self) -> None:
        set_max_parallel_tasks(20)
        assert max_parallel_tasks() == 20
        set_max_parallel_tasks(None)
        assert max_parallel_tasks() is None

    @pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "4"])
    def test_a_number_that_makes_no_sense_is_refused(self, wrong: Any) -> None:
        with pytest.raises(InvalidTaskOptionError, match="1 or more, or None, not"):
            set_max_parallel_tasks(wrong)


@pytest.mark.parametrize(
    ("text", "per_second"),
    [
        ("10/s", 10), ("100/m", 100 / 60), ("3600/h", 1), ("86400/d", 1), ("5/2h", 5 / 7200),
        (" 0.5 / SEC ", 0.5), ("30/minute", 0.5), ("1000/day", 1000 / 86400), (2.5, 2.5), (3, 3),
    ],
)  # fmt: skip
def test_a_rate_is_read_in_the_ways_that_people_write_it(text: Any, per_second: float) -> None:
    assert parse_rate(text) == pytest.approx(per_second)


def test_starts_of_a_tenth_of_a_second_may_come_together() -> None:
    bursts = [limit(key="api", rate=rate).burst for rate in ("1/m", "10/s", "25/s", "100/s")]

    assert bursts == [1, 1, 2, 10]
    assert limit(key="api", rate="100/s", burst=1).burst == 1


@pytest.mark.parametrize(
    "wrong", ["", "10", "ten/s", "10/x", "0/s", "10/0s", "-1/s", "1/s/s", 0, -2, True, None]
)
def test_a_rate_of_another_form_is_refused_with_an_example(wrong: Any) -> None:
    with pytest.raises(InvalidTaskOptionError, match=re.escape('"10/s", "100/m", "5/2h"')):
        parse_rate(wrong)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key": "", "max": 1}, "Key must be a name"),
        ({"key": "k" * 201, "max": 1}, "Key must be a name of at most 200 characters"),
        ({"key": "a\x00b", "max": 1}, "Key must be a name of at most 200 characters"),
        ({"key": "caf\udce9", "max": 1}, "Key must be a name of at most 200 characters"),
        ({"key": "api"}, "must say max=, rate= or both, beside the key, not 'api'"),
        ({"key": "api", "max": 0}, "Max must be a whole number, 1 or more, not 0"),
        ({"key": "api", "max": 1.5}, "Max must be a whole number"),
        ({"key": "api", "max": 1, "burst": 2}, "Burst needs a rate= beside it"),
        ({"key": "api", "rate": "1/s", "burst": 0}, "Burst must be a whole number"),
    ],
)
def test_a_limit_that_cannot_work_is_refused(
    broker: InMemoryBroker, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidTaskOptionError, match=re.escape(words)):
        limit(**options)
    with pytest.raises(InvalidTaskOptionError, match=re.escape(words)):
        Pipeline(broker).with_limit(**options)


def _stores(path: Path, request: pytest.FixtureRequest, name: str) -> str:
    if name == "sqlite":
        return f"sqlite:///{path / 'runs.db'}"
    return request.getfixturevalue(f"{name}_url")


@pytest.mark.parametrize(
    "name",
    [
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ],
)
async def test_a_limit_holds_between_two_brokers_on_one_store(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, namespace: str
) -> None:
    url = _stores(tmp_path, request, name)
    gauge = Gauge(2)
    runs = []
    brokers = [InMemoryBroker(), InMemoryBroker()]
    for broker in brokers:
        broker.add_middlewares(PipelineMiddleware(store=url, namespace=namespace))

        @broker.task(task_name="call")
        @pipeline_task(limit=limit(key="api", max=2))
        async def call(value: int) -> int:
            await gauge()
            return value

        runs += [await Pipeline(broker).map(call, range(4)).kiq()]
    results = [(await run.wait_result(timeout=60)).return_value for run in runs]
    for broker in brokers:
        await broker.shutdown()

    assert list(itertools.chain(*results)) == [*range(4), *range(4)]
    assert (gauge.peak, gauge.calls) == (2, 8)
