"""Every block of the execution guide runs as written, in memory and on Redis with a worker.

Where a block cannot run as it stands, the test says what stands in for which of its words.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from taskiq import InMemoryBroker, TaskiqError

from taskiq_flow import (
    DAGBuilder,
    DataflowPipeline,
    ExecutionEngine,
    MapReduce,
    Pipeline,
    PipelineError,
    PipelineMiddleware,
    PipelineTask,
)
from taskiq_flow.errors import ErrorHandlingMode
from taskiq_flow.optimization.parallel import max_parallel_tasks, set_max_parallel_tasks
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import BrokerKind
from tests.integration.workers.conftest import build
from tests.integration.workers.harness import READY_LINE, App, eventually
from tests.seeds import execution
from tests.seeds.execution import (
    ARGUMENTS,
    CONTEXT,
    FAN_OUT,
    FAN_OUT_REPLACED,
    TIMEOUTS,
    TRACING,
    make_guide,
)
from tests.seeds.guide import HERE, Guide

pytestmark = pytest.mark.timeout(120)

Printed = Callable[[str], Awaitable[None]]


@pytest.fixture(scope="module")
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The guide's tasks on Redis, and one worker for all of its blocks."""
    directory = tmp_path_factory.mktemp("guide") / "app"
    app = build(request, directory, BrokerKind.LIST, store=None)
    try:
        app.spawn(module="execution_guide").wait_for_log(READY_LINE)
        yield app
    finally:
        app.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def guide(request: pytest.FixtureRequest) -> AsyncIterator[Guide]:
    """The guide as a client reads it, in this process or beside a worker."""
    if request.param == "memory":
        broker: Any = InMemoryBroker()
    else:
        app: App = request.getfixturevalue("app")
        broker = make_broker(app.settings)
        broker.add_middlewares(PipelineMiddleware(config=app.config))
    guide = make_guide(broker)
    await broker.startup()
    yield guide
    await broker.shutdown()


@pytest.fixture
def printed(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Printed:
    """Waits until a step has printed a text, wherever it ran."""

    here: list[str] = []

    def is_here(text: str) -> bool:
        here.append(capsys.readouterr().out)
        return text in "".join(here)

    async def wait(text: str) -> None:
        if request.node.callspec.params["guide"] == "redis":
            await request.getfixturevalue("app").workers[0].has_logged(text)
        else:
            await eventually(lambda: is_here(text))

    return wait


async def value_of(task: PipelineTask[Any]) -> Any:
    return (await task.wait_result(timeout=30)).return_value


CODE = re.compile(
    r"from \S+ import|import |await |@|def |async |class |\w+ = |\w+\.\w+\(|print\("
    r"|for .*:$|try:|except "
)


def test_no_line_of_code_of_the_guide_is_left_out() -> None:
    here = {
        " ".join(line.split())
        for module in (__file__, execution.__file__)
        for line in Path(module).read_text(encoding="utf-8").splitlines()
    }
    text = (HERE / execution.TEXT).read_text(encoding="utf-8")

    code = [" ".join(line.split()) for line in text.splitlines() if CODE.match(line)]
    code.remove("max_parallel = number_of_cpu_cores * 2for CPU-bound tasks")  # a sentence

    assert len(code) > 100
    assert [line for line in code if line not in here] == []


# --- 1. Execution models


async def test_1_1_steps_follow_one_another(guide: Guide) -> None:
    await guide.run("""
        pipeline = Pipeline(broker).call_next(task1).call_next(task2).call_next(task3)
        # Execution order: task1 → task2 → task3 (synchronously)
    """)

    task = await guide["pipeline"].kiq(1)

    assert await value_of(task) == [4, 4, 4, 4]
    status = await task.get_status()
    assert [step.name for step in status.steps] == ["task1", "task2", "task3"]
    ends = [(step.started_at, step.completed_at) for step in status.steps]
    assert all(ended <= began for (_, ended), (began, _) in pairwise(ends))


async def test_1_2_independent_tasks_are_on_one_level(guide: Guide) -> None:
    await guide.run(FAN_OUT, FAN_OUT_REPLACED)

    assert guide["pipeline"].visualize()["levels"] == [["features"], ["tags", "embedding"]]
    results = await guide["pipeline"].kiq_dataflow(tracks=["a", "b"])
    assert results == {"features": 2, "tags": ["tag", "tag"], "embedding": [2]}


async def test_1_3_a_map_works_on_so_many_items_at_once(guide: Guide) -> None:
    await guide.run(
        """
        from taskiq_flow import MapReduce

        # Process 100 items with max 10 concurrent workers
        result = await MapReduce.map(
            broker,
            process_item,
            items=items_list,
            output="processed",
            max_parallel=10  # controls concurrency level
        )
        """,
        items_list=list(range(100)),
    )

    assert guide["result"].return_value == [item * item for item in range(100)]
    assert guide["result"].success_rate == 1


# --- 2. Starting a pipeline


async def test_2_1_kiq_returns_at_once(guide: Guide) -> None:
    await guide.run(
        """
        task = await pipeline.kiq(initial_input)
        # Do other things...
        result = await task.wait_result() # blocks until complete
        """,
        pipeline=Pipeline(guide["broker"], guide["task1"]),
        initial_input=1,
    )

    assert guide["result"].return_value == 2
    assert guide["task"].task_id == guide["pipeline"].pipeline_id


async def test_2_2_a_graph_gives_its_outputs_by_name(guide: Guide) -> None:
    pipeline = DataflowPipeline.from_tasks(guide["broker"], [guide["count_tracks"]])
    await guide.run(
        """
        results = await pipeline.kiq_dataflow(track_paths=["a.mp3", "b.mp3"])
        # Returns: dict mapping output names → values
        """,
        pipeline=pipeline,
    )

    assert guide["results"] == {"count": 2}


async def test_2_3_map_and_reduce_in_one_call(guide: Guide) -> None:
    pipeline = DataflowPipeline(guide["broker"], [guide["process_item"], guide["add_up"]])
    await guide.run(
        """
        final = await pipeline.kiq_map_reduce(
            items=items,
            map_output="processed",
            reduce_output="final"
        )
        """,
        pipeline=pipeline,
        items=[1, 2, 3],
    )

    assert guide["final"] == 14


# --- 3. Waiting for results


async def test_3_1_a_blocking_wait(guide: Guide, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = Pipeline(guide["broker"], guide["task1"])
    await guide.run(
        """
        task = await pipeline.kiq(data)
        result = await task.wait_result()  # blocks
        print(result.return_value)
        """,
        pipeline=pipeline,
        data=1,
    )

    assert capsys.readouterr().out == "2\n"


async def test_3_1_a_wait_that_times_out_raises_a_timeout_error(guide: Guide) -> None:
    task = await Pipeline(guide["broker"], guide["sleeps"]).kiq(60)

    with pytest.raises(asyncio.TimeoutError):
        await task.wait_result(timeout=0.1)

    assert await task.cancel()


async def test_3_1_raise_on_error_raises_what_the_task_raised(guide: Guide) -> None:
    task = await Pipeline(guide["broker"], guide["fails"]).kiq("bread")

    with pytest.raises(ValueError, match="no bread here"):
        await task.wait_result(raise_on_error=True)


async def test_3_2_polling_ends(guide: Guide, capsys: pytest.CaptureFixture[str]) -> None:
    await guide.run(
        """
        task = await pipeline.kiq(data)

        # Check periodically without blocking
        while not task.is_finished:
            await asyncio.sleep(0.5)
            status = await task.get_status()
            print(f"Status: {status}")
        """,
        pipeline=Pipeline(guide["broker"], guide["sleeps"]),
        data=0.3,
    )

    assert guide["task"].is_finished
    assert str(await guide["task"].get_status()) == "COMPLETED"
    words = {"PENDING", "RUNNING", "COMPLETED"}
    assert set(capsys.readouterr().out.splitlines()) <= {f"Status: {word}" for word in words}


async def test_3_3_a_result_is_fetched_by_id_alone(guide: Guide) -> None:
    await Pipeline(guide["broker"], guide["task1"]).with_id("abc123").kiq(1)

    await guide.run(
        """
        from taskiq import Task

        task = Task(task_id="abc123", broker=broker)
        result = await task.wait_result()
        """,
        {"from taskiq import": "from taskiq_flow import"},
    )

    assert guide["result"].return_value == 2


# --- 4. Error handling


async def test_4_1_an_error_stops_the_run_by_default(guide: Guide) -> None:
    task = await Pipeline(guide["broker"], guide["fails"]).call_next(guide["task1"]).kiq(1)

    with pytest.raises(PipelineError):
        await task.wait_result(timeout=30)

    status = await task.get_status()
    assert (str(status), [step.name for step in status.steps]) == ("FAILED", ["fails"])


POLICIES = """
    pipeline = Pipeline(broker)

    # Configure to continue despite errors
    pipeline.on_error("continue")  # options: "stop", "continue", "retry"

    # Or use a retry policy (see Retry Guide)
    pipeline.with_retry(
        max_attempts=3,
        delay=5,
        backoff=2
    )
"""


async def test_4_1_a_failed_step_is_tried_again_after_its_delay(guide: Guide) -> None:
    await guide.run(POLICIES)
    task = await guide["pipeline"].call_next(guide["fails"]).call_next(guide["or_zero"]).kiq(1)

    async def waits_for_its_retry() -> bool:
        return any(step.status == "RETRYING" for step in (await task.get_status()).steps)

    await eventually(waits_for_its_retry)
    (step,) = (await task.get_status()).steps
    assert step.retry_at is not None
    assert step.started_at is not None
    assert 5 <= (step.retry_at - step.started_at).total_seconds() < 9.5, (
        "5 s, a quarter of jitter, and a slow machine"
    )
    await task.cancel()


async def test_4_1_a_pipeline_that_continues_passes_none_on(guide: Guide) -> None:
    await guide.run(POLICIES)
    pipeline = guide["pipeline"].with_retry(max_attempts=1)
    task = await pipeline.call_next(guide["fails"]).call_next(guide["or_zero"]).kiq(1)

    assert await value_of(task) == 0


async def test_4_2_a_pipeline_error_is_caught_as_one_of_taskiqs(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    await guide.run(
        """
        try:
            result = await pipeline.kiq(data)
            output = await result.wait_result()
        except TaskiqError as exc:
            print(f"Pipeline failed: {exc}")
            # Access partial results if any
            if result.is_failed:
                print(f"Failed at step: {result.failed_step}")
        """,
        pipeline=Pipeline(guide["broker"], guide["task1"]).call_next(guide["fails"]),
        data=1,
        TaskiqError=TaskiqError,
    )

    failed, at_step = capsys.readouterr().out.splitlines()
    assert failed.startswith("Pipeline failed: ")
    assert "no 2 here" in failed
    assert at_step == "Failed at step: fails"


async def test_4_3_what_was_done_before_the_failure_is_kept(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    await guide.run(
        """
        result = await pipeline.kiq(data)

        try:
            output = await result.wait_result()
        except PipelineError:
            # Some steps succeeded before failure
            partial = result.partial_results  # dict of completed outputs
            print(f"Partial: {partial}")
        """,
        pipeline=Pipeline(guide["broker"], guide["task1"]).call_next(guide["fails"]),
        data=1,
    )

    assert guide["partial"] == {"task1": 2}
    assert capsys.readouterr().out == "Partial: {'task1': 2}\n"


# --- 5. Timeouts


async def test_5_a_pipeline_has_a_deadline_and_a_task_its_own_timeout(guide: Guide) -> None:
    await guide.run(TIMEOUTS)

    task = await guide["pipeline"].call_next(guide["slow_task"]).kiq()

    status = await task.get_status()
    assert status.deadline is not None
    assert status.created_at is not None
    assert (status.deadline - status.created_at).total_seconds() == pytest.approx(60, abs=1)
    assert await value_of(task) is None


async def test_5_what_takes_too_long_is_cancelled_and_fails(guide: Guide) -> None:
    task = await Pipeline(guide["broker"], guide["sleeps"]).with_timeout(0.5).kiq(60)

    with pytest.raises(asyncio.TimeoutError):
        await task.wait_result()

    status = await task.get_status()
    assert str(status) == "FAILED"
    assert "0.5" in (status.error or "")


# --- 6. Execution context


async def test_6_a_task_receives_the_context_by_its_annotation(
    guide: Guide, printed: Printed
) -> None:
    await guide.run(CONTEXT)
    await guide.run("""
        pipeline = Pipeline(broker).with_context(enable=True)
    """)

    task = await guide["pipeline"].call_next(guide["my_task"]).kiq("data")

    assert await value_of(task) == "DATA"
    await printed(f"Pipeline ID: {task.task_id}\nStep number: 0\nTask ID: {task.task_id}:0")


# --- 7. Custom execution engines


async def test_7_an_engine_runs_a_graph_that_was_built_by_hand(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    await guide.run("""
        from taskiq_flow import ExecutionEngine, DAGBuilder
        from taskiq_flow.dataflow import DataflowRegistry

        # Build registry manually
        registry = DataflowRegistry()
        registry.register_task(load, output="raw", inputs=[])
        registry.register_task(process, output="clean", inputs=["raw"])
        registry.register_task(save, output="saved", inputs=["clean"])

        # Build DAG
        dag = registry.build_dag()

        # Create execution engine
        engine = ExecutionEngine(broker, dag)

        # Execute with custom inputs
        results = await engine.execute(inputs={"source_file": "data.csv"})
        print(results)  # {"raw": ..., "clean": ..., "saved": ...}
    """)

    assert guide["results"] == {
        "raw": ["data.csv", "", "row"],
        "clean": ["data.csv", "row"],
        "saved": 2,
    }
    assert "'saved': 2" in capsys.readouterr().out


# --- 8. Result shapes


async def test_8_1_a_chain_gives_its_last_result(guide: Guide) -> None:
    pipeline = Pipeline(guide["broker"], guide["task1"]).call_next(guide["task3"])
    await guide.run(
        """
        task = await pipeline.kiq(input)
        result = await task.wait_result()

        # result.return_value is the final output after all steps
        # Example: [3, 3, 3, 3] from our quickstart pipeline
        """,
        pipeline=pipeline.map(guide["task1"]),
        input=1,
    )

    assert guide["result"].return_value == [3, 3, 3, 3]


async def test_8_2_a_graph_takes_its_only_input_without_a_name(guide: Guide) -> None:
    await guide.run(FAN_OUT, FAN_OUT_REPLACED)
    await guide.run(
        """
        result = await pipeline.kiq_dataflow(input_data)
        # Returns a dict mapping each output name to its value
        {
            "features": {...},
            "tags": [...],
            "embedding": [...]
        }
        """,
        input_data=["a.mp3"],
    )

    assert list(guide["result"]) == ["features", "tags", "embedding"]


async def test_8_3_map_and_reduce_give_return_values(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    await guide.run(
        """
        mapped = await MapReduce.map(...)
        print(mapped.return_value)  # List of mapped results

        reduced = await MapReduce.reduce(...)
        print(reduced.return_value)  # Final aggregated result
        """,
        {
            "MapReduce.map(...)": "MapReduce.map(broker, process_item, [1, 2])",
            "MapReduce.reduce(...)": "MapReduce.reduce(broker, add_up, mapped)",
        },
    )

    assert capsys.readouterr().out == "[1, 4]\n5\n"


# --- 9. Inspecting pipeline state


async def test_9_tracking_shows_each_step(guide: Guide, capsys: pytest.CaptureFixture[str]) -> None:
    """The block asks right after the start; what it prints is looked at once the run has ended."""
    await guide.run(
        INSPECTING,
        {"with_tracking(tracking)": "with_tracking(tracking).call_next(task1).call_next(task2)"},
        data=1,
    )
    assert guide["status"].status in {"PENDING", "RUNNING", "COMPLETED"}
    await guide["task"].wait_result(timeout=30)
    capsys.readouterr()

    status = await guide["tracking"].get_status(guide["pipeline"].pipeline_id)

    assert (status.status, [step.name for step in status.steps]) == (
        "COMPLETED",
        ["task1", "task2"],
    )
    assert status.started_at <= status.completed_at
    assert all(step.duration_ms >= 0 and step.status == "COMPLETED" for step in status.steps)


INSPECTING = """
    from taskiq_flow import PipelineTrackingManager

    tracking = PipelineTrackingManager().with_auto_storage(broker)
    pipeline = Pipeline(broker).with_tracking(tracking)

    task = await pipeline.kiq(data)

    # Get detailed status
    status = await tracking.get_status(pipeline.pipeline_id)
    print(f"Status: {status.status}") # PENDING, RUNNING, COMPLETED, FAILED
    print(f"Steps: {len(status.steps)}") # Number of completed steps
    print(f"Started: {status.started_at}")
    print(f"Completed: {status.completed_at}")

    # Get step-by-step history
    for step in status.steps:
        print(f"  {step.name}: {step.status} ({step.duration_ms}ms)")
"""


# --- 10. Debugging execution


async def test_10_1_a_logger_of_its_own(guide: Guide, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("taskiq_flow")
    root = logging.getLogger()
    monkeypatch.setattr(logger, "level", logger.level)
    monkeypatch.setattr(root, "level", root.level)
    await guide.run("""
        import logging

        logging.basicConfig(level=logging.DEBUG)
        # Or configure specific loggers
        logger = logging.getLogger("taskiq_flow")
        logger.setLevel(logging.DEBUG)
    """)

    assert await value_of(await Pipeline(guide["broker"], guide["task1"]).kiq(1)) == 2


@pytest.mark.parametrize("kind", ["chain", "graph"])
async def test_10_2_every_pipeline_is_printed(
    guide: Guide, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broker, tasks = guide["broker"], [guide["task1"], guide["task3"]]
    chain = Pipeline(broker, tasks[0]).call_next(tasks[1])
    await guide.run(
        """
        pipeline.print_dag()
        # Shows execution levels and dependencies
        """,
        pipeline=chain if kind == "chain" else DataflowPipeline(broker, [guide["count_tracks"]]),
    )

    out = capsys.readouterr().out
    assert "Pipeline DAG" in out
    assert all(name in out for name in (["task1", "task3"] if kind == "chain" else ["count"]))


async def test_10_3_a_task_prints_what_it_receives(guide: Guide, printed: Printed) -> None:
    await guide.run(ARGUMENTS)
    pipeline = Pipeline(guide["broker"], guide["task1"]).call_next(guide["debug_task"])

    task = await pipeline.kiq(41)

    assert await value_of(task) == 42
    await printed(f"Received: 42\nContext: pipeline={task.task_id}, step=1")


async def test_10_4_a_subclass_of_the_middleware_traces_steps(
    guide: Guide, printed: Printed
) -> None:
    await guide.run(TRACING)
    pipeline = Pipeline(guide["broker"], guide["task1"]).call_next(guide["task2"])

    task = await pipeline.kiq(1)

    assert await value_of(task) == 4
    await printed(f"Step {task.task_id}:0 completed with: 2")
    await printed(f"Step {task.task_id}:1 completed with: 4")


# --- 11. Performance


@pytest.fixture
def no_limit_afterwards() -> Iterator[None]:
    yield
    set_max_parallel_tasks(None)


async def test_11_1_a_process_limits_what_runs_at_once(
    guide: Guide, no_limit_afterwards: None
) -> None:
    """Twenty of thirty items, each of which takes 0.1 s, leave ten for a second turn."""
    await guide.run("""
        # Limit total parallel tasks globally
        from taskiq_flow.optimization.parallel import set_max_parallel_tasks

        set_max_parallel_tasks(20)  # never more than 20 tasks simultaneously
    """)

    assert max_parallel_tasks() == 20
    mapped = await MapReduce.map(guide["broker"], guide["sleeps"], [0.1] * 30)
    assert mapped.return_value == ["rested"] * 30
    assert mapped.duration > 0.2


async def test_11_2_a_map_is_given_its_items(guide: Guide) -> None:
    await guide.run(
        """
        # CPU-bound tasks: benefit from parallelism up to core count
        # I/O-bound tasks: can handle higher parallelism
        # Small/fast tasks: overhead may outweigh benefits

        # Tip: Profile with varying max_parallel values
        pipeline.map(process_item, items, max_parallel=8)
        """,
        pipeline=Pipeline(guide["broker"]),
        items=[1, 2, 3],
    )

    assert await value_of(await guide["pipeline"].kiq()) == [1, 4, 9]


async def test_11_3_a_large_list_goes_through_a_graph_in_chunks(guide: Guide) -> None:
    pipeline = DataflowPipeline(guide["broker"], [guide["count_tracks"]])
    await guide.run(
        """
        # Process large datasets in chunks
        chunks = split_into_chunks(large_list, chunk_size=100)
        for chunk in chunks:
            results = await pipeline.kiq_dataflow(chunk)
            # process results before next chunk
        """,
        pipeline=pipeline,
        large_list=[f"{number}.mp3" for number in range(250)],
        split_into_chunks=lambda items, chunk_size: [
            items[start : start + chunk_size] for start in range(0, len(items), chunk_size)
        ],
    )

    assert guide["results"] == {"count": 50}


# --- 12. Common pitfalls


async def test_12_a_graph_without_tasks_says_no_dag_built(guide: Guide) -> None:
    with pytest.raises(ValueError, match="No DAG built"):
        await DataflowPipeline(guide["broker"]).kiq_dataflow()


async def test_12_continuing_on_errors_leaves_a_report(guide: Guide) -> None:
    dag = DAGBuilder().add_task(guide["fails"], "bad").add_task(guide["task1"], "good").build()
    engine = ExecutionEngine(guide["broker"], dag, continue_on_error=True)

    results = await engine.execute({"value": 1})

    assert results == {"bad": None, "good": 2}
    assert engine.error_mode is ErrorHandlingMode.CONTINUE_ON_ERROR
    assert engine.errors.failed_tasks == ["bad"]
    assert engine.get_execution_report()["success_rate"] == 0.5
