"""A number, a time or an id that cannot be is refused by its name, with what was given."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import (
    CachePolicy,
    CPUProfile,
    DataflowPipeline,
    DLQManager,
    HookManager,
    InMemoryPipelineStorage,
    MapReduce,
    Pipeline,
    PipelineScheduler,
    PipelineTrackingManager,
    RetryMiddleware,
    RetryPolicy,
    StorageMiddleware,
    Task,
    TaskiqFlowError,
    calculate_exponential_backoff_delay,
    pipeline_task,
)
from taskiq_flow.middlewares import PipelineRetryMiddleware
from taskiq_flow.optimization import ResourceAwareExecutor
from taskiq_flow.result_backends import FileResultBackend, InmemoryResultBackend
from taskiq_flow.scheduling import in_seconds
from taskiq_flow.security import Security, TokenAuthProvider

Call = Callable[..., Any]

NO_NUMBERS = ["5", "", b"5", [], {}, object(), datetime(2026, 1, 1, tzinfo=UTC), math.nan, True]
NO_COUNTS = [*NO_NUMBERS, -1, 1.5, math.inf, 10**30]
NO_TIMES = [*NO_NUMBERS, -1, math.inf, 1e308]

broker = InMemoryBroker()


@broker.task(task_name="wrong_numbers:same")
async def same(value: int) -> int:
    return value


def chain() -> Pipeline[Any]:
    return Pipeline(broker, same)


def declared(**options: Any) -> Any:
    return pipeline_task(output="same", **options)(lambda value: value)


COUNTS: dict[str, Call] = {
    "max_parallel": lambda n: Pipeline(broker, max_parallel=n),
    "max_parallel of a graph": lambda n: DataflowPipeline(broker, max_parallel=n),
    "max_parallel of a map": lambda n: chain().map(same, max_parallel=n),
    "max_parallel of a filter": lambda n: chain().filter(same, max_parallel=n),
    "max_parallel of a reduction": lambda n: chain().reduce(same, max_parallel=n),
    "chunk_size": lambda n: chain().reduce(same, chunk_size=n),
    "max": lambda n: chain().with_limit(key="k", max=n),
    "burst": lambda n: chain().with_limit(key="k", rate="5/s", burst=n),
    "max_attempts": lambda n: chain().with_retry(max_attempts=n),
    "retries": lambda n: declared(retries=n),
    "max_retries": lambda n: RetryMiddleware(max_retries=n),
    "max_retries of a pipeline": lambda n: PipelineRetryMiddleware(max_retries=n),
    "attempt": calculate_exponential_backoff_delay,
    "min_parallel": lambda n: ResourceAwareExecutor(min_parallel=n),
}
TIMES: dict[str, Call] = {
    "timeout": lambda s: Pipeline(broker, timeout=s),
    "timeout of a run": lambda s: chain().with_timeout(s),
    "timeout of an event": lambda s: chain().wait_for("paid", timeout=s),
    "sleep": lambda s: chain().sleep(s),
    "delay": lambda s: chain().with_retry(delay=s),
    "max_delay": lambda s: chain().with_retry(max_delay=s),
    "max_total": lambda s: chain().with_retry(max_total=s),
    "retry_delay": lambda s: declared(retry_delay=s),
    "max_retry_time": lambda s: declared(max_retry_time=s),
    "timeout of a task": lambda s: declared(timeout=s),
    "ttl": lambda s: CachePolicy(ttl=s),
    "base_delay as delay": lambda s: calculate_exponential_backoff_delay(1, s),
    "seconds": in_seconds,
    "ttl_seconds": lambda s: FileResultBackend("results", ttl_seconds=s),
}
NUMBERS: dict[str, Call] = {
    "backoff": lambda n: RetryPolicy(backoff=n) and chain().with_retry(backoff=n),
    "cpu_units": lambda n: CPUProfile(n)(same),
    "timeout_seconds": lambda n: StorageMiddleware(timeout_seconds=n),
    "timeout_seconds of hooks": lambda n: HookManager(timeout_seconds=n),
    "poll_seconds": lambda n: PipelineScheduler(broker, "memory://", poll_seconds=n),
    "max_cpu_percent": lambda n: ResourceAwareExecutor(max_cpu_percent=n),
    "task_memory_estimate": lambda n: ResourceAwareExecutor().get_optimal_parallelism(n),
    "max_records": lambda n: InMemoryPipelineStorage(max_records=n),
    "max_history": lambda n: PipelineTrackingManager(max_history=n),
    "max_stored_results": InmemoryResultBackend,
    "session_seconds": lambda n: Security(token="t" * 40, session_seconds=n),
    "expires_seconds": lambda n: TokenAuthProvider("k" * 32).create_token("a", expires_seconds=n),
}


def is_about(error: TaskiqFlowError, name: str, value: Any) -> bool:
    said = str(error).lower().replace(" ", "_")
    return name.split()[0] in said and repr(value)[:12].lower().replace(" ", "_") in said


@pytest.mark.parametrize(
    ("name", "call", "wrong"),
    [
        *((name, call, NO_COUNTS) for name, call in COUNTS.items()),
        *((name, call, NO_TIMES) for name, call in TIMES.items()),
        *((name, call, NO_NUMBERS) for name, call in NUMBERS.items()),
    ],
    ids=[*COUNTS, *TIMES, *NUMBERS],
)
def test_what_is_no_number_of_its_kind_is_refused_where_it_is_written(
    name: str, call: Call, wrong: list[Any]
) -> None:
    for value in wrong:
        with pytest.raises(TaskiqFlowError) as refused:
            call(value)
        assert is_about(refused.value, name.split(" as ")[-1], value), str(refused.value)


@pytest.mark.parametrize("broker", [None, 5, "redis://localhost", object(), InMemoryBroker])
def test_what_is_no_broker_is_said_to_be_none(broker: Any) -> None:
    calls: list[Call] = [
        lambda: Pipeline(broker),
        lambda: DataflowPipeline(broker),
        lambda: PipelineScheduler(broker),
        lambda: Task(task_id="a", broker=broker),
    ]
    for call in calls:
        with pytest.raises(TaskiqFlowError, match="is not a Taskiq broker; hand over the broker"):
            call()


@pytest.mark.parametrize("url", [5, "", "localhost:6379", b"redis://localhost", ["memory://"]])
def test_what_is_no_url_of_a_store_is_said_to_be_none(url: Any) -> None:
    with pytest.raises(TaskiqFlowError, match="is not a store URL; use memory://"):
        DLQManager(store=url)


async def test_a_question_about_dead_letters_that_makes_no_sense_is_refused() -> None:
    letters = DLQManager(store="memory://")

    for limit in (*NO_COUNTS, None, 0):
        with pytest.raises(TaskiqFlowError, match="Limit must be a whole number, 1 or more, not"):
            await letters.list_failed(limit=limit)
    for name in ("name", "kind", "tag", "task"):
        with pytest.raises(TaskiqFlowError, match=f"{name.capitalize()} must be text, not 5"):
            await letters.list_failed(**{name: 5})  # type: ignore[arg-type]
    for seconds in ("5", None, math.nan, -1, [], True):
        with pytest.raises(TaskiqFlowError, match="Seconds must not be negative"):
            await letters.cleanup_older_than(seconds)  # type: ignore[arg-type]
    await letters.close()


async def test_a_question_to_a_history_that_makes_no_sense_is_refused() -> None:
    storage = InMemoryPipelineStorage()

    for limit in (*NO_COUNTS[:-1], 0):
        with pytest.raises(TaskiqFlowError, match=r"limit=.* must be a whole number"):
            await storage.list_pipelines(limit=limit)
    for days in (*NO_NUMBERS, -1, math.inf, 10**30):
        with pytest.raises(TaskiqFlowError, match=r"days=.* must be a number from 0"):
            await storage.cleanup_older_than(days)
    for name in ("name", "tag", "pipeline_type"):
        with pytest.raises(TaskiqFlowError, match=f"{name}=5 is no text"):
            await PipelineTrackingManager(storage).get_history(**{name: 5})  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", ["5", None, math.nan, [], datetime(2026, 1, 1, tzinfo=UTC)])
async def test_a_wait_for_no_time_is_refused_and_the_run_goes_on(seconds: Any) -> None:
    task = await chain().kiq(1)

    with pytest.raises(TaskiqFlowError, match="Timeout must be a number of seconds"):
        await task.wait_result(timeout=seconds)
    assert (await task.wait_result(timeout=math.inf)).return_value == 1


async def test_a_time_that_no_calendar_has_is_refused_before_anything_runs() -> None:
    with pytest.raises(TaskiqFlowError, match="Timeout must be at most a hundred years"):
        await MapReduce.map(broker, same, [1], timeout=1e12)
