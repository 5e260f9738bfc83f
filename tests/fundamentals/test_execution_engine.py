"""A graph that was built by hand can be run as it is."""

import asyncio
import logging

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.dataflow import DAG, DAGBuilder, DAGNode, DataflowRegistry
from taskiq_flow.errors import ErrorHandlingMode
from taskiq_flow.exceptions import MissingInputError, NoDagError, NotATaskError, PipelineError
from taskiq_flow.execution_engine import ExecutionEngine
from taskiq_flow.middlewares import DLQManager


def table_dag(broker: InMemoryBroker, *, fails: bool = False) -> DAG:
    @broker.task
    def load(source_file: str) -> list[str]:
        return source_file.split(",")

    @broker.task
    def process(raw: list[str]) -> list[int]:
        if fails:
            raise ValueError("bad row")
        return [int(cell) for cell in raw]

    @broker.task
    async def save(clean: list[int]) -> int:
        return sum(clean)

    registry = DataflowRegistry()
    registry.register_task(load, output="raw", inputs=[])
    registry.register_task(process, output="clean", inputs=["raw"])
    registry.register_task(save, output="saved", inputs=["clean"])
    return registry.build_dag()


async def test_a_graph_gives_all_of_its_outputs(broker: InMemoryBroker) -> None:
    engine = ExecutionEngine(broker, table_dag(broker))
    results = await engine.execute(inputs={"source_file": "1,2,3"})

    assert results == {"raw": ["1", "2", "3"], "clean": [1, 2, 3], "saved": 6}


async def test_outputs_can_be_taken_as_they_come(broker: InMemoryBroker) -> None:
    engine = ExecutionEngine(broker, table_dag(broker))
    seen = [output async for output in engine.execute_async({"source_file": "4"})]

    assert seen == [("raw", ["4"]), ("clean", [4]), ("saved", 4)]


async def test_a_callback_hears_of_every_output(broker: InMemoryBroker) -> None:
    heard: dict[str, object] = {}

    async def hear(name: str, value: object) -> None:
        heard[name] = value

    results = await ExecutionEngine(broker, table_dag(broker), on_step_complete=hear).execute(
        {"source_file": "5"}
    )

    assert heard == results


async def test_inputs_that_nothing_needs_are_left_out_with_a_warning(
    broker: InMemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    engine = ExecutionEngine(broker, table_dag(broker))

    with caplog.at_level(logging.WARNING, "taskiq_flow.execution_engine"):
        await engine.execute({"source_file": "1", "colour": "red"})

    assert "colour" in caplog.text


async def test_a_missing_input_starts_nothing(broker: InMemoryBroker) -> None:
    engine = ExecutionEngine(broker, table_dag(broker))

    with pytest.raises(MissingInputError, match="'source_file'"):
        await engine.execute()
    assert engine.get_execution_report() == {}


async def test_a_failure_stops_the_run_and_is_in_the_report(broker: InMemoryBroker) -> None:
    engine = ExecutionEngine(broker, table_dag(broker, fails=True))

    with pytest.raises(PipelineError, match="bad row"):
        await engine.execute({"source_file": "1"})

    report = engine.get_execution_report()
    assert report["completed_tasks"] == ["raw"]
    assert report["failed_tasks"] == ["clean"]
    assert report["skipped_tasks"] == ["saved"]
    assert "bad row" in report["errors"]["clean"]
    assert engine.errors.has_errors


@pytest.mark.parametrize(
    "how",
    [
        {"error_mode": ErrorHandlingMode.SKIP_FAILED},
        {"error_mode": "continue_on_error"},
        {"continue_on_error": True},
        {"skip_failed": True},
    ],
)
async def test_a_run_can_go_on_past_a_failure(broker: InMemoryBroker, how: dict) -> None:
    engine = ExecutionEngine(broker, table_dag(broker, fails=True), **how)
    results = await engine.execute({"source_file": "1"})

    assert results["raw"] == ["1"]
    assert results["saved"] is None
    assert engine.get_execution_report()["skipped_tasks"] == ["saved"]


async def test_dead_letter_mode_runs_the_rest_and_fails_then(broker: InMemoryBroker) -> None:
    mode = ErrorHandlingMode.DEAD_LETTER
    engine = ExecutionEngine(broker, table_dag(broker, fails=True), error_mode=mode)

    with pytest.raises(PipelineError, match="bad row"):
        await engine.execute({"source_file": "1"})

    report = engine.get_execution_report()
    assert (report["status"], report["success_rate"]) == ("FAILED", 1 / 3)
    assert engine.errors.failed_tasks == ["clean"]
    assert [letter.step for letter in await DLQManager(broker).list_failed()] == ["clean"]


async def test_only_real_tasks_and_graphs_are_run(broker: InMemoryBroker) -> None:
    def plain(value: int) -> int:
        return value

    registry = DataflowRegistry()
    registry.register_task(plain)

    with pytest.raises(NotATaskError, match="plain"):
        await ExecutionEngine(broker, registry.build_dag()).execute({"value": 1})
    with pytest.raises(NoDagError):
        await ExecutionEngine(broker, DAG()).execute()


async def test_nothing_runs_so_nothing_is_cancelled(broker: InMemoryBroker) -> None:
    engine = ExecutionEngine(broker, table_dag(broker))

    assert not await engine.cancel()
    await engine.execute({"source_file": "1"})
    assert not await engine.cancel()


def test_unknown_parameters_are_refused_and_documented_ones_are_not(
    broker: InMemoryBroker,
) -> None:
    ExecutionEngine(broker, DAG(), resource_aware=True, adaptive_parallelism=True)

    with pytest.raises(TypeError, match="speed"):
        ExecutionEngine(broker, DAG(), speed=3)


async def test_no_more_tasks_run_at_once_than_the_engine_may(broker: InMemoryBroker) -> None:
    running, most = 0, 0
    builder = DAGBuilder()
    for number in range(6):

        @broker.task(task_name=f"busy-{number}")
        async def busy(seconds: float) -> float:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(seconds)
            running -= 1
            return seconds

        builder.add_task(busy, f"output-{number}")

    outputs = await ExecutionEngine(broker, builder.build(), max_parallel=2).execute(
        {"seconds": 0.02}
    )

    assert len(outputs) == 6
    assert most == (1 if broker.await_inplace else 2)


async def test_a_subclass_says_how_each_task_is_sent(broker: InMemoryBroker) -> None:
    tries = 0

    @broker.task
    async def flaky(number: int) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ConnectionError("not yet")
        return number

    class Stubborn(ExecutionEngine):
        def schedule_task(self, node: DAGNode) -> object:
            assert node.name == "flaky"
            return node.task.kicker().with_labels(retry_on_error=True, max_retries=2, delay=0)

    engine = Stubborn(broker, DAGBuilder().add_task(flaky, "done").build())

    assert await engine.execute({"number": 7}) == {"done": 7}
    assert tries == 2
