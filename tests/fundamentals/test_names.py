"""A pipeline can be named, tagged and drawn."""

import asyncio

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.exceptions import DuplicatePipelineError
from taskiq_flow.pipeline import DataflowPipeline, Pipeline


async def test_after_a_start_a_pipeline_has_the_id_of_its_run(broker: InMemoryBroker) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    pipeline = Pipeline(broker, double)
    assert pipeline.pipeline_id is None

    first = await pipeline.kiq(1)
    assert pipeline.pipeline_id == first.task_id
    second = await pipeline.kiq(1)
    assert pipeline.pipeline_id == second.task_id != first.task_id


async def test_a_name_is_free_again_when_its_run_has_ended(broker: InMemoryBroker) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    pipeline = Pipeline(broker, double, pipeline_id="nightly")
    await (await pipeline.kiq(1)).wait_result()
    task = await pipeline.kiq(2)

    assert (await task.wait_result()).return_value == 4
    assert pipeline.pipeline_id == "nightly"


async def test_a_name_whose_run_is_going_is_not_started_twice(broker: InMemoryBroker) -> None:
    release = asyncio.Event()
    starts = 0

    @broker.task
    async def wait() -> None:
        nonlocal starts
        starts += 1
        await release.wait()

    if broker.await_inplace:
        pytest.skip("in this mode kiq itself runs the step, so it would wait as well")
    pipeline = Pipeline(broker, wait).with_id("nightly")
    task = await pipeline.kiq()

    with pytest.raises(DuplicatePipelineError, match="nightly"):
        await pipeline.kiq()
    release.set()
    await task.wait_result()
    assert starts == 1


async def test_a_run_carries_its_name_and_tags(broker: InMemoryBroker) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    pipeline = Pipeline(broker, double).with_name("Doubling").with_tags("a", "b").with_tags("c")
    status = await (await pipeline.kiq(1)).get_status()

    assert (status.name, status.tags) == ("Doubling", ["a", "b", "c"])


def test_a_pipeline_is_drawn_before_it_runs(
    broker: InMemoryBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    @broker.task
    def load(path: str) -> list[str]:
        return [path]

    @broker.task
    def parse(line: str) -> int:
        return len(line)

    pipeline = Pipeline(broker, load).map(parse).with_name("Lines")
    pipeline.print_dag()

    assert "Pipeline DAG: Lines" in capsys.readouterr().out
    assert [node["id"] for node in pipeline.visualize()["nodes"]] == ["load", "parse"]
    assert pipeline.visualize()["levels"] == [["load"], ["parse"]]
    assert "digraph" in pipeline.visualize_dot()
    assert "flowchart" in pipeline.visualize_mermaid()
    assert pipeline._repr_html_().startswith("<svg")


def test_a_graph_is_drawn_with_the_names_of_its_data(broker: InMemoryBroker) -> None:
    @broker.task
    def load(path: str) -> list[str]:
        return [path]

    @broker.task
    def count(load: list[str]) -> int:
        return len(load)

    edges = DataflowPipeline(broker, [count, load]).visualize()["edges"]

    assert [(edge["from"], edge["to"], edge["label"]) for edge in edges] == [
        ("load", "count", "load")
    ]
