"""A dataflow: a parameter receives the output that has its name."""

import asyncio

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import ExecutionEngine, PipelineMiddleware
from taskiq_flow.dataflow import DAGBuilder, pipeline_task
from taskiq_flow.exceptions import (
    CycleError,
    DuplicateOutputError,
    MissingInputError,
    PositionalInputError,
    TypeMismatchError,
    UnknownInputError,
)
from taskiq_flow.pipeline import DataflowPipeline


def audio_tasks(broker: InMemoryBroker) -> list[object]:
    @broker.task
    @pipeline_task(output="features")
    def extract(tracks: list[str]) -> list[str]:
        return [track.upper() for track in tracks]

    @pipeline_task(output="tags")
    @broker.task
    def tag(features: list[str]) -> list[str]:
        return [f"#{feature}" for feature in features]

    @broker.task
    @pipeline_task(output="embedding")
    async def embed(features: list[str], size: int = 2) -> list[int]:
        return [len(feature) * size for feature in features]

    return [embed, tag, extract]


async def test_steps_find_each_other_by_name(broker: InMemoryBroker) -> None:
    pipeline = DataflowPipeline.from_tasks(broker, audio_tasks(broker))
    results = await pipeline.kiq_dataflow(tracks=["a", "bc"])

    assert results == {
        "features": ["A", "BC"],
        "embedding": [2, 4],
        "tags": ["#A", "#BC"],
    }
    assert list(results) == ["features", "embedding", "tags"]


async def test_the_results_know_their_run(broker: InMemoryBroker) -> None:
    pipeline = DataflowPipeline.from_tasks(broker, audio_tasks(broker))
    results = await pipeline.kiq_dataflow(tracks=[])

    assert results.task_id == pipeline.pipeline_id
    assert (await results.wait_result()).return_value == dict(results) == results.return_value


async def test_a_start_can_be_waited_for_later(broker: InMemoryBroker) -> None:
    pipeline = DataflowPipeline.from_tasks(broker, audio_tasks(broker))
    task = await pipeline.kiq(tracks=["a"])

    assert (await task.wait_result()).return_value["tags"] == ["#A"]


async def test_a_single_value_goes_to_the_only_external_input(broker: InMemoryBroker) -> None:
    pipeline = DataflowPipeline.from_tasks(broker, audio_tasks(broker))

    assert (await pipeline.kiq_dataflow(["a"]))["features"] == ["A"]
    assert (await pipeline.kiq_dataflow({"tracks": ["b"], "size": 5}))["embedding"] == [5]


async def test_a_parameter_with_a_default_can_be_given_from_outside(
    broker: InMemoryBroker,
) -> None:
    pipeline = DataflowPipeline.from_tasks(broker, audio_tasks(broker))

    assert (await pipeline.kiq_dataflow(tracks=["a"], size=7))["embedding"] == [7]
    assert (await pipeline.kiq_dataflow(tracks=["a"]))["embedding"] == [2]


async def test_any_step_can_take_an_input_from_outside(broker: InMemoryBroker) -> None:
    @broker.task
    def clean(text: str) -> str:
        return text.strip()

    @broker.task
    def count(clean: str, letter: str) -> int:
        return clean.count(letter)

    pipeline = DataflowPipeline(broker, [clean, count])

    assert await pipeline.kiq_dataflow(text=" banana ", letter="a") == {
        "clean": "banana",
        "count": 3,
    }


@pytest.mark.parametrize("returned", [{"low": 1, "high": 9}, (1, 9)])
async def test_a_task_can_have_several_outputs(broker: InMemoryBroker, returned: object) -> None:
    @broker.task
    @pipeline_task(outputs=["low", "high"])
    def ends(values: list[int]):
        return returned

    @broker.task
    def span(low: int, high: int) -> int:
        return high - low

    pipeline = DataflowPipeline(broker, [ends, span])

    assert await pipeline.kiq_dataflow(values=[]) == {"low": 1, "high": 9, "span": 8}


async def test_parts_of_a_graph_need_not_be_connected(broker: InMemoryBroker) -> None:
    @broker.task
    def left(a: int) -> int:
        return a + 1

    @broker.task
    def right(b: int) -> int:
        return b + 2

    pipeline = DataflowPipeline(broker).add_dataflow_task(left).add_task(right)

    assert await pipeline.kiq_dataflow(a=1, b=1) == {"left": 2, "right": 3}


async def test_a_task_can_be_added_between_two_runs(broker: InMemoryBroker) -> None:
    @broker.task
    def left(a: int) -> int:
        return a + 1

    @broker.task
    def right(left: int) -> int:
        return left + 2

    pipeline = DataflowPipeline(broker, [left])

    assert await pipeline.kiq_dataflow(a=1) == {"left": 2}
    assert await pipeline.add_task(right).kiq_dataflow(a=1) == {"left": 2, "right": 4}


async def test_wrong_inputs_are_refused_before_anything_runs(broker: InMemoryBroker) -> None:
    pipeline = DataflowPipeline.from_tasks(broker, audio_tasks(broker))

    with pytest.raises(MissingInputError, match=r"'tracks'.*'extract'"):
        await pipeline.kiq_dataflow()
    with pytest.raises(UnknownInputError, match="'trakcs'"):
        await pipeline.kiq(tracks=[], trakcs=[])
    with pytest.raises(PositionalInputError):
        await pipeline.kiq([], [])
    assert pipeline.pipeline_id is None


async def test_an_empty_pipeline_says_that_no_dag_was_built(broker: InMemoryBroker) -> None:
    with pytest.raises(ValueError, match="No DAG built"):
        await DataflowPipeline(broker).kiq_dataflow()


def test_contradictions_are_found_when_the_graph_is_built(broker: InMemoryBroker) -> None:
    @broker.task
    def chicken(egg: int) -> int:
        return egg

    @broker.task
    def egg(chicken: int) -> int:
        return chicken

    with pytest.raises(CycleError):
        DataflowPipeline.from_tasks(broker, [chicken, egg])
    with pytest.raises(DuplicateOutputError, match="'egg'"):
        DataflowPipeline.from_tasks(broker, [egg, egg])


async def test_a_step_does_not_wait_for_slower_ones_beside_those_it_needs(
    broker: InMemoryBroker,
) -> None:
    """The slow step of the first level ends only after the second level has been reached."""
    if broker.await_inplace:
        pytest.skip("in this mode one step runs at a time")
    reached = asyncio.Event()

    @broker.task
    async def slow(number: int) -> str:
        await reached.wait()
        return "slow"

    @broker.task
    async def fast(number: int) -> str:
        return "fast"

    @broker.task
    async def after_fast(fast: str) -> str:
        reached.set()
        return f"after {fast}"

    async with asyncio.timeout(20):
        results = await DataflowPipeline(broker, [slow, fast, after_fast]).kiq_dataflow(1)

    assert results == {"slow": "slow", "fast": "fast", "after_fast": "after fast"}


def mismatched(broker: InMemoryBroker) -> list[object]:
    @broker.task
    def load(path: str) -> list[str]:
        return [path]

    @broker.task
    def count(load: int) -> int:
        return load

    return [load, count]


def test_annotations_that_cannot_fit_are_an_error_when_the_graph_is_built(
    broker: InMemoryBroker,
) -> None:
    tasks = mismatched(broker)

    with pytest.raises(TypeMismatchError, match=r"'load' returns list.* 'count' takes int"):
        DataflowPipeline(broker, tasks)
    with pytest.raises(TypeMismatchError):
        ExecutionEngine(broker, DAGBuilder.from_tasks(tasks))


async def test_the_check_of_types_can_be_a_warning_or_be_off(
    broker: InMemoryBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = mismatched(broker)

    monkeypatch.setenv("TASKIQ_FLOW_TYPE_CHECK", "off")
    DataflowPipeline(broker, tasks)
    assert not caplog.records

    broker.add_middlewares(PipelineMiddleware(type_check="warn"))
    DataflowPipeline(broker, tasks)
    assert "'count' takes int" in caplog.text


def test_a_map_is_checked_by_its_list_and_not_by_its_items(broker: InMemoryBroker) -> None:
    @broker.task
    def double(item: int) -> int:
        return item * 2

    @broker.task
    def join(words: str) -> str:
        return words

    pipeline = DataflowPipeline(broker).map(double, [1], output="doubled").reduce(join, "doubled")

    with pytest.raises(TypeMismatchError, match="parameter 'words' of 'join' takes str"):
        pipeline.build_dag()
