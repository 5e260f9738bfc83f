"""A result that was computed once serves all runs, as long as code, arguments and time allow it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from taskiq import AsyncTaskiqDecoratedTask, InMemoryBroker

from taskiq_flow import CachePolicy, PipelineContext, PipelineMiddleware, pipeline_task
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.result_key import code_version
from taskiq_flow.exceptions import InvalidTaskOptionError, PipelineError
from taskiq_flow.model.records import RunFilter
from taskiq_flow.pipeline import DataflowPipeline, Pipeline
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.task import PipelineTask
from taskiq_flow.testing.clock import ManualClock

Task = AsyncTaskiqDecoratedTask[..., Any]


async def result_of(task: PipelineTask[Any]) -> Any:
    return (await task.wait_result(timeout=60)).return_value


async def run(broker: InMemoryBroker, task: Task, *args: Any, **kwargs: Any) -> Any:
    return await result_of(await Pipeline(broker, task).kiq(*args, **kwargs))


async def test_equal_calls_are_computed_once(broker: InMemoryBroker) -> None:
    calls: list[int] = []

    @broker.task
    @pipeline_task(cache=True)
    def square(value: int, plus: int = 0) -> int:
        calls.append(value)
        return value * value + plus

    results = [await run(broker, square, value) for value in (3, 3, 4, 3)]
    results.append(await run(broker, square, value=3))
    results.append(await run(broker, square, 3, 1))

    assert results == [9, 9, 16, 9, 9, 10]
    assert calls == [3, 4, 3]


async def test_it_serves_every_kind_of_pipeline_and_any_place_in_it(
    broker: InMemoryBroker,
) -> None:
    calls: list[Any] = []

    @broker.task
    @pipeline_task(cache=True)
    async def loaded(name: str) -> dict[str, int]:
        calls.append(name)
        return {"length": len(name)}

    @broker.task
    @pipeline_task(cache=True)
    async def known(item: str) -> bool:
        calls.append(item)
        return item.startswith("k")

    items = ["kiwi", "apple", "kiwi", "kaki"]
    chain = Pipeline(broker).filter(known, items, max_parallel=1).map(loaded, max_parallel=1)
    first = await result_of(await chain.kiq())
    again = await result_of(await chain.kiq())
    graph = await DataflowPipeline(broker, [loaded]).kiq_dataflow(name="kaki")

    assert first == again == [{"length": 4}] * 3
    assert graph == {"loaded": {"length": 4}}
    assert calls == ["kiwi", "apple", "kaki", "kiwi", "kaki"]


async def test_one_computes_while_the_others_wait(broker: InMemoryBroker) -> None:
    calls, go = asyncio.Queue[int](), asyncio.Event()

    @broker.task
    @pipeline_task(cache=True)
    async def slow(value: int) -> int:
        calls.put_nowait(value)
        await go.wait()
        return value

    pipeline = Pipeline(broker, slow)
    if broker.await_inplace:
        runs = [asyncio.ensure_future(pipeline.kiq(7)) for _ in range(5)]
        await calls.get()
        go.set()
        tasks = await asyncio.gather(*runs)
    else:
        tasks = [await pipeline.kiq(7) for _ in range(5)]
        await calls.get()
        go.set()

    assert [await result_of(task) for task in tasks] == [7] * 5
    assert calls.empty()


async def test_an_error_is_not_kept_and_those_who_wait_try_themselves(
    broker: InMemoryBroker,
) -> None:
    calls: list[int] = []

    @broker.task
    @pipeline_task(cache=True)
    async def moody(value: int) -> int:
        calls.append(value)
        for _ in range(50):
            await asyncio.sleep(0)
        if len(calls) < 3:
            raise ConnectionError("not today")
        return value

    tasks = await asyncio.gather(*(Pipeline(broker, moody).kiq(7) for _ in range(5)))
    ended = [await task.wait_result(timeout=60, raise_on_error=False) for task in tasks]

    assert sorted(result.is_err for result in ended) == [False, False, False, True, True]
    assert calls == [7, 7, 7]


async def test_a_retry_that_succeeds_is_kept(broker: InMemoryBroker) -> None:
    attempts: list[int] = []

    @broker.task
    @pipeline_task(cache=True, retries=2, retry_delay=0)
    async def flaky(value: int, context: PipelineContext) -> int:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise ConnectionError("again")
        return value

    assert await run(broker, flaky, 7) == 7
    assert await run(broker, flaky, 7) == 7
    assert attempts == [1, 2, 3]


async def test_a_step_that_was_stopped_lets_another_compute() -> None:
    broker, begun = InMemoryBroker(), asyncio.Event()

    @broker.task
    @pipeline_task(cache=True)
    async def stuck_once(value: int) -> int:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return value

    first = await Pipeline(broker, stuck_once).kiq(7)
    await begun.wait()
    second = await Pipeline(broker, stuck_once).kiq(7)
    await first.cancel()

    assert await result_of(second) == 7
    with pytest.raises(PipelineError):
        await first.wait_result(timeout=60)
    await broker.shutdown()


async def test_a_result_counts_for_its_time_and_no_longer() -> None:
    clock = ManualClock(1_000_000.0)
    broker, calls = InMemoryBroker(), list[int]()
    broker.add_middlewares(PipelineMiddleware(store=MemoryRunStore(clock=clock)))

    @broker.task
    @pipeline_task(cache=60)
    async def square(value: int) -> int:
        calls.append(value)
        return value * value

    for seconds in (0, 59, 2, 58, 1):
        clock.advance(seconds)
        assert await run(broker, square, 3) == 9
    await broker.shutdown()

    assert calls == [3, 3]


async def test_a_new_version_computes_anew(broker: InMemoryBroker) -> None:
    calls: list[int] = []

    def versioned(version: str) -> Task:
        @broker.task(task_name="versioned")
        @pipeline_task(cache=CachePolicy(version=version))
        def square(value: int) -> int:
            calls.append(value)
            return value * value

        return square

    for version in ("1", "1", "2", "2", "1"):
        assert await run(broker, versioned(version), 3) == 9

    assert calls == [3, 3]


def test_without_a_version_the_code_of_the_function_counts() -> None:
    def made(body: str) -> Callable[..., Any]:
        space: dict[str, Any] = {}
        exec(f"def f(value, other=(1, 2)):\n    {body}", space)
        return space["f"]

    one, same = made("return value in {'a', 'b'}"), made("return value in {'a', 'b'}")
    others = [made("return value in {'a', 'c'}"), made("return other"), made("return [value]")]

    assert code_version(one) == code_version(same)
    assert len({code_version(each) for each in (one, *others)}) == 4
    assert code_version(result_of) != code_version(run)


async def test_only_the_arguments_that_are_named_count(broker: InMemoryBroker) -> None:
    calls: list[Any] = []

    @broker.task
    @pipeline_task(cache=CachePolicy(key="user"))
    def greeting(user: str, trace: str) -> str:
        calls.append(trace)
        return f"hello {user}"

    @broker.task
    @pipeline_task(cache=CachePolicy(key=lambda user, trace="": user.lower()))
    def shout(user: str, trace: str = "") -> str:
        calls.append(trace)
        return user.upper()

    assert [await run(broker, greeting, "ann", trace) for trace in "ab"] == ["hello ann"] * 2
    assert [await run(broker, shout, user, "c") for user in ("Bob", "bob")] == ["BOB"] * 2
    assert calls == ["a", "c"]


async def test_what_is_kept_is_no_run_of_the_users(broker: InMemoryBroker) -> None:
    @broker.task
    @pipeline_task(cache=True)
    def square(value: int) -> int:
        return value * value

    ids = [(await Pipeline(broker, square).kiq(3)).task_id for _ in range(2)]
    for run_id in ids:
        await RunClient.of(broker).wait(run_id)

    listed = await RunClient.of(broker).store.list_runs(RunFilter())
    assert sorted(found.run_id for found in listed.runs) == sorted(ids)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"ttl": 0}, "Cache ttl must be positive, not 0"),
        ({"ttl": True}, "Cache ttl must be a number of seconds, not True"),
        ({"key": []}, "Cache key must be names of parameters"),
        ({"key": [1]}, "Cache key must be names of parameters"),
        ({"version": 1.5}, "Cache version must be text or a whole number"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(policy: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTaskOptionError, match=re.escape(words)):
        CachePolicy(**policy)


async def test_what_cannot_be_kept_is_refused_before_anything_is_stored(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    @pipeline_task(cache=True)
    async def stream(value: int) -> AsyncIterator[int]:
        yield value

    @broker.task
    @pipeline_task(cache=CachePolicy(key="nobody"))
    def square(value: int) -> int:
        return value * value

    with pytest.raises(InvalidTaskOptionError, match="this one yields it item by item"):
        await Pipeline(broker, stream).kiq(1)
    with pytest.raises(InvalidTaskOptionError, match=re.escape("of square (it has: value)")):
        await Pipeline(broker, square).kiq(1)


async def test_a_key_that_is_no_text_fails_its_step_by_name(broker: InMemoryBroker) -> None:
    @broker.task
    @pipeline_task(cache=CachePolicy(key=lambda value: value))
    def square(value: int) -> int:
        return value * value

    task = await Pipeline(broker, square).kiq(1)
    with pytest.raises(PipelineError, match="must be text, not 1"):
        await task.wait_result(timeout=60)


@pytest.mark.parametrize(
    "name",
    [
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ],
)
async def test_two_brokers_on_one_store_share_what_they_computed(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, namespace: str
) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}" if name == "sqlite" else ""
    url = url or request.getfixturevalue(f"{name}_url")
    calls: list[int] = []
    brokers = [InMemoryBroker(), InMemoryBroker()]
    started: list[PipelineTask[Any]] = []
    for broker in brokers:
        broker.add_middlewares(PipelineMiddleware(store=url, namespace=namespace))

        @broker.task(task_name="shared")
        @pipeline_task(cache=CachePolicy(ttl=3600, version=1))
        async def shared(value: int) -> dict[str, int]:
            calls.append(value)
            return {"value": value}

        started += [await Pipeline(broker).map(shared, [1, 2, 1], max_parallel=1).kiq()]
        started += [await Pipeline(broker, shared).kiq(3)]
    results = [await result_of(task) for task in started]
    for broker in brokers:
        await broker.shutdown()

    one, two, three = ({"value": number} for number in (1, 2, 3))
    assert results == [[one, two, one], three] * 2
    assert sorted(calls) == [1, 2, 3]
