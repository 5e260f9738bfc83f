"""What cannot work is refused with a sentence that names it, before anything is stored or sent."""

from typing import Any

import pytest
from taskiq import InMemoryBroker
from taskiq_redis import ListQueueBroker

from taskiq_flow import (
    ConfigurationError,
    CycleError,
    DataflowPipeline,
    Pipeline,
    PipelineError,
    PipelineMiddleware,
    RunNotFoundError,
    Task,
    pipeline_task,
)
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import (
    EmptyPipelineError,
    ForeignTaskError,
    MissingInputError,
    NoStoreError,
    NotATaskError,
    NotIterableError,
    PayloadTooLargeError,
    StoreUrlError,
    UnknownInputError,
    UnserializableValueError,
)
from taskiq_flow.model.records import RunFilter


async def stored_runs(broker: InMemoryBroker) -> int:
    return len((await RunClient.of(broker).store.list_runs(RunFilter())).runs)


async def test_an_empty_pipeline_is_not_started(broker: InMemoryBroker) -> None:
    pipeline = Pipeline(broker)

    with pytest.raises(EmptyPipelineError, match="no steps"):
        await pipeline.kiq(1)

    assert await stored_runs(broker) == 0


async def test_an_empty_graph_says_that_it_has_no_dag(broker: InMemoryBroker) -> None:
    with pytest.raises(ValueError, match="No DAG built"):
        await DataflowPipeline(broker).kiq_dataflow()


def test_a_plain_function_is_no_step(broker: InMemoryBroker) -> None:
    def plain(value: int) -> int:
        return value

    with pytest.raises(NotATaskError, match=r"'plain'.*@broker\.task"):
        Pipeline(broker).call_next(plain)  # type: ignore[arg-type]


def test_a_task_of_another_broker_is_refused(broker: InMemoryBroker) -> None:
    other = InMemoryBroker()

    @other.task(task_name="elsewhere")
    async def elsewhere(value: int) -> int:
        return value

    with pytest.raises(ForeignTaskError, match="'elsewhere'"):
        Pipeline(broker).call_next(elsewhere)


async def test_a_cycle_is_named(broker: InMemoryBroker) -> None:
    @broker.task
    @pipeline_task(output="a")
    async def first(b: int) -> int:
        return b

    @broker.task
    @pipeline_task(output="b")
    async def second(a: int) -> int:
        return a

    with pytest.raises(CycleError, match="Circular dependency"):
        await DataflowPipeline.from_tasks(broker, [first, second]).kiq()


async def test_a_missing_and_an_unknown_input_are_named(broker: InMemoryBroker) -> None:
    @broker.task
    @pipeline_task(output="total")
    async def add(left: int, right: int) -> int:
        return left + right

    pipeline = DataflowPipeline.from_tasks(broker, [add])

    with pytest.raises(MissingInputError, match="'right'"):
        await pipeline.kiq(left=1)
    with pytest.raises(UnknownInputError, match="'wrong'"):
        await pipeline.kiq(left=1, right=2, wrong=3)
    assert await stored_runs(broker) == 0


async def test_arguments_that_the_first_task_does_not_take_are_refused(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    async def one(value: int) -> int:
        return value

    with pytest.raises(ConfigurationError, match="one"):
        await Pipeline(broker, one).kiq(1, 2, 3)

    assert await stored_runs(broker) == 0


async def test_an_input_that_cannot_be_stored_is_named_before_anything_is(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    async def use(value: Any) -> None: ...

    with pytest.raises(UnserializableValueError, match=r"object"):
        await Pipeline(broker, use).kiq({"rows": [object()]})

    assert await stored_runs(broker) == 0


async def test_a_result_that_cannot_be_stored_fails_its_step_by_name(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    async def handles() -> dict[str, Any]:
        return {"rows": [1, object()]}

    task = await Pipeline(broker, handles).kiq()

    with pytest.raises(PipelineError, match=r"'handles'") as caught:
        await task.wait_result(timeout=5)
    assert isinstance(caught.value.__cause__, UnserializableValueError)
    assert "rows[1]" in str(caught.value.__cause__)


async def test_a_result_over_the_limit_says_how_large_it_was() -> None:
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(max_value_bytes=1000))

    @broker.task
    async def large() -> str:
        return "x" * 2000

    task = await Pipeline(broker, large).kiq()

    with pytest.raises(PipelineError, match="2,002 bytes") as caught:
        await task.wait_result(timeout=5)
    assert isinstance(caught.value.__cause__, PayloadTooLargeError)
    await broker.shutdown()


@pytest.mark.parametrize("returned", [7, "text", None, {"a": 1}])
async def test_a_map_over_something_without_items_fails_by_name(
    broker: InMemoryBroker, returned: object
) -> None:
    @broker.task
    async def give() -> Any:
        return returned

    @broker.task
    async def use(item: Any) -> Any:
        return item

    task = await Pipeline(broker, give).map(use).kiq()

    with pytest.raises(PipelineError, match="'use'") as caught:
        await task.wait_result(timeout=5)
    assert isinstance(caught.value.__cause__, NotIterableError)


def test_a_wrong_store_url_says_what_one_looks_like(broker: InMemoryBroker) -> None:
    with pytest.raises(StoreUrlError, match="sqlite:///"):
        broker.add_middlewares(PipelineMiddleware(store="mongodb://somewhere"))


def test_workers_elsewhere_need_a_store_that_they_share() -> None:
    broker = ListQueueBroker("redis://localhost:1")

    with pytest.raises(NoStoreError, match="TASKIQ_FLOW_STORE_URL"):
        broker.add_middlewares(PipelineMiddleware(store="memory://"))


def test_an_unknown_setting_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigurationError, match="lease_seconds"):
        PipelineMiddleware(lease=5)


async def test_a_run_that_never_was_is_said_to_be_unknown(broker: InMemoryBroker) -> None:
    with pytest.raises(RunNotFoundError, match="'nothing'"):
        await Task(task_id="nothing", broker=broker).get_status()
    with pytest.raises(RunNotFoundError):
        await Task(task_id="nothing", broker=broker).wait_result(timeout=5)
