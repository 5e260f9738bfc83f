"""A step may ask who it is, and takes what Taskiq injects."""

import asyncio
import contextlib
import logging
import pickle
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from taskiq import Context, InMemoryBroker, TaskiqDepends

from taskiq_flow import MapReduce, PipelineMiddleware, Task, pipeline_task
from taskiq_flow.context import PipelineContext
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import ContextUseError, PipelineError
from taskiq_flow.pipeline import DataflowPipeline, Pipeline
from taskiq_flow.stores.memory import MemoryRunStore


async def test_a_parameter_annotated_with_the_context_receives_it(broker: InMemoryBroker) -> None:
    @broker.task
    async def first(data: str, context: PipelineContext) -> list[object]:
        return [data, context.step_index, context.step_name, context.pipeline_id]

    @broker.task
    def second(context: PipelineContext, before: list[object]) -> list[object]:
        return [*before, context.step_index]

    task = await Pipeline(broker, first).call_next(second).kiq("x")

    assert (await task.wait_result()).return_value == ["x", 0, "first", task.task_id, 1]


async def test_a_parameter_that_is_only_named_context_receives_it_when_asked_for(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    def who(value: int, context) -> str:
        return context.step_name

    task = await Pipeline(broker, who).with_context(enable=True).kiq(1)

    assert (await task.wait_result()).return_value == "who"


async def test_what_taskiq_injects_is_no_input(broker: InMemoryBroker) -> None:
    def prefix() -> str:
        return "id"

    @broker.task
    def tell(
        value: int,
        taskiq: Context = TaskiqDepends(),  # noqa: B008 - Taskiq's way
        name: str = TaskiqDepends(prefix),
    ) -> str:
        return f"{name} {value} {bool(taskiq.message.task_id)}"

    results = await DataflowPipeline(broker, [tell]).kiq_dataflow(5)

    assert results == {"tell": "id 5 True"}


async def test_the_context_says_which_call_of_which_run_this_is(broker: InMemoryBroker) -> None:
    seen: list[PipelineContext] = []

    @broker.task
    async def number(value: int, context: PipelineContext) -> int:
        seen.append(context)
        if context.attempt == 1 and context.item_index is None:
            raise ConnectionError("again")
        return value

    @broker.task
    async def numbers(value: int) -> list[int]:
        return [value, value]

    pipeline = Pipeline(broker, number).call_next(numbers).map(number, max_parallel=1)
    before = datetime.now(UTC)
    task = await pipeline.with_retry(2, delay=0).with_timeout(60).with_id("named").kiq(7)
    await task.wait_result(timeout=60)

    assert [(c.step_name, c.step_index, c.item_index, c.attempt) for c in seen] == [
        ("number", 0, None, 1),
        ("number", 0, None, 2),
        ("number#2", 2, 0, 1),
        ("number#2", 2, 1, 1),
    ]
    first = seen[0]
    assert (first.pipeline_id, first.execution_mode, first.broker) == (
        "named",
        "sequential",
        broker,
    )
    assert first.run_id == await RunClient.of(broker).store.find("named")
    assert seen[3].task_id == f"{first.run_id}:2:1"
    assert before <= first.started_at <= datetime.now(UTC)
    assert first.deadline is not None
    assert timedelta(seconds=59) < first.deadline - before < timedelta(seconds=61)
    assert len({c.started_at for c in seen}) == 1


async def test_every_kind_of_pipeline_says_how_it_is_executed(broker: InMemoryBroker) -> None:
    @broker.task
    async def mode(value: int, context: PipelineContext) -> str:
        return context.execution_mode

    chain = await (await Pipeline(broker, mode).kiq(1)).wait_result(timeout=60)
    graph = await DataflowPipeline(broker, [mode]).kiq_dataflow(1)
    mapped = await MapReduce.map(broker, mode, [1])

    assert chain.return_value == "sequential"
    assert graph["mode"] == "parallel"
    assert mapped.return_value == ["map_reduce"]


async def test_the_deadline_is_that_of_the_step_if_it_comes_first(broker: InMemoryBroker) -> None:
    @broker.task(timeout=30)
    async def left(value: int, context: PipelineContext) -> float:
        assert context.deadline is not None
        return (context.deadline - datetime.now(UTC)).total_seconds()

    for seconds, expected in ((60, 30), (10, 10), (None, 30)):
        task = await Pipeline(broker, left).with_timeout(seconds).kiq(1)
        value = (await task.wait_result(timeout=60)).return_value
        assert expected - 5 < value <= expected + 0.1


async def test_an_async_step_reads_what_earlier_steps_gave(broker: InMemoryBroker) -> None:
    @broker.task
    @pipeline_task(output="size")
    async def measure(word: str) -> int:
        return len(word)

    @broker.task
    async def letters(size: int) -> list[int]:
        return list(range(size))

    @broker.task
    async def twice(letter: int) -> int:
        return letter * 2

    @broker.task
    async def look(values: list[int], context: PipelineContext) -> list[Any]:
        assert "look" not in await context.get_results()
        with pytest.raises(
            ContextUseError, match="'look' cannot answer: no step has given 'colour'"
        ):
            await context.get_result("colour")
        with pytest.raises(ContextUseError, match=re.escape("`await context.get_result(name)`")):
            context.results["size"]
        return [await context.get_result("size"), await context.get_result("twice"), sum(values)]

    pipeline = Pipeline(broker, measure).call_next(letters).map(twice).call_next(look)
    task = await pipeline.kiq("word")

    assert (await task.wait_result(timeout=60)).return_value == [4, [0, 2, 4, 6], 12]


async def test_a_sync_step_reads_them_from_its_thread() -> None:
    broker = InMemoryBroker()

    @broker.task
    def measure(word: str) -> int:
        return len(word)

    @broker.task
    def look(size: int, context: PipelineContext) -> list[Any]:
        with pytest.raises(KeyError):
            context.results["colour"]
        return [context.results["measure"], sorted(context.results), len(context.results)]

    task = await Pipeline(broker, measure).call_next(look).kiq("word")

    assert (await task.wait_result(timeout=60)).return_value == [4, ["measure"], 1]
    await broker.shutdown()


async def test_progress_is_shown_while_a_step_runs() -> None:
    broker = InMemoryBroker()
    go = asyncio.Event()

    @broker.task
    async def slow(value: int, context: PipelineContext) -> int:
        context.progress(1, 3, "one of three")
        await go.wait()
        return value

    task = await Pipeline(broker, slow).kiq(1)
    async with asyncio.timeout(30):
        while True:
            progress = await task.get_progress()
            if progress.meta:
                break
            await asyncio.sleep(0)
    go.set()
    await task.wait_result(timeout=60)

    assert progress.state == "RUNNING"
    assert progress.meta == {"slow": {"current": 1, "total": 3, "message": "one of three"}}
    await broker.shutdown()


async def test_what_a_step_logs_is_kept_with_its_run(
    broker: InMemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    @broker.task
    async def talk(value: int, context: PipelineContext) -> int:
        context.logger.debug("too quiet to be kept")
        context.logger.info("value is %d", value)
        context.logger.warning("100 % sure")
        context.logger.error("wrong %d", "format")
        return value

    @broker.task
    def talk_too(value: int, context: PipelineContext) -> int:
        context.logger.info("from a thread")
        return value

    with caplog.at_level(logging.WARNING, logger="taskiq_flow.step"), _no_format_errors():
        task = await Pipeline(broker, talk).map(talk_too, [1]).kiq(7)
        await task.wait_result(timeout=60)

    lines = await task.get_log()
    assert [(line.level, line.message, line.step, line.attempt, line.item) for line in lines] == [
        ("INFO", "value is 7", "talk", 1, None),
        ("WARNING", "100 % sure", "talk", 1, None),
        ("ERROR", "wrong %d ('format',)", "talk", 1, None),
        ("INFO", "from a thread", "talk_too", 1, 0),
    ]
    assert (await Task(task.task_id, broker).get_log()) == lines
    said = next(record for record in caplog.records if record.msg == "100 % sure")
    assert (said.funcName, said.step, said.run_id) == ("talk", "talk", task.task_id)  # type: ignore[attr-defined]


async def test_lines_are_kept_with_the_run_alone_from_all_threads_of_a_step(
    broker: InMemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    @broker.task
    def talk(value: int, context: PipelineContext) -> int:
        together = threading.Barrier(8)

        def say(number: int) -> None:
            together.wait(20)
            context.keep_line(logging.INFO, f"line {number}")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(say, range(8)))
        return value

    with caplog.at_level(logging.DEBUG):
        task = await Pipeline(broker, talk).kiq(7)
        await task.wait_result(timeout=60)

    lines = await task.get_log()
    assert {(line.level, line.message, line.attempt) for line in lines} == {
        ("INFO", f"line {number}", 1) for number in range(8)
    }
    assert "line 0" not in caplog.text


async def test_a_step_that_logs_too_much_loses_lines_and_not_its_time(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    async def shout(value: int, context: PipelineContext) -> int:
        context.logger.info("x" * 20_000)
        for number in range(5_000):
            context.logger.info("line %d", number)
        return value

    task = await Pipeline(broker, shout).kiq(7)
    assert (await task.wait_result(timeout=60)).return_value == 7

    lines = await task.get_log()
    assert lines[0].message == f"{'x' * 16384}… (3,616 bytes more)"
    assert lines[1].message == "line 0"
    assert lines[-1].message.startswith("4001 lines were written quicker")
    assert len(lines) == 1001


async def test_who_sees_the_end_of_a_run_finds_all_of_its_lines() -> None:
    class Slow(MemoryRunStore):
        async def append_log(self, run_id: str, lines: Sequence[bytes]) -> None:
            for _ in range(100):
                await asyncio.sleep(0)
            await super().append_log(run_id, lines)

    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=Slow()))

    @broker.task
    async def talk(value: int, context: PipelineContext) -> None:
        context.logger.info("before it fails")
        raise ValueError(value)

    task = await Pipeline(broker, talk).kiq(7)
    with pytest.raises(PipelineError):
        await task.wait_result(timeout=60)

    assert [line.message for line in await task.get_log()] == ["before it fails"]
    await broker.shutdown()


async def test_a_sync_step_sees_that_its_run_was_cancelled() -> None:
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(lease_seconds=0.4))
    begun, told = threading.Event(), threading.Event()

    @broker.task
    def work(value: int, context: PipelineContext) -> int:
        assert not context.cancelled
        begun.set()
        for _ in range(3000):
            if told.wait(0.01) or context.cancelled:
                break
        told.set()
        context.raise_if_cancelled()
        return value

    task = await Pipeline(broker, work).kiq(1)
    await asyncio.to_thread(begun.wait, 30)
    assert await task.cancel("enough")

    assert await asyncio.to_thread(told.wait, 2)
    with pytest.raises(PipelineError, match="enough"):
        await task.wait_result(timeout=60)
    await broker.shutdown()


async def test_a_view_that_left_its_process_knows_what_can_be_known_there() -> None:
    broker, kept = InMemoryBroker(), list[PipelineContext]()

    @broker.task
    async def keep(value: int, context: PipelineContext) -> int:
        kept.append(context)
        return value

    await (await Pipeline(broker, keep).kiq(1)).wait_result(timeout=60)
    await broker.shutdown()
    view: PipelineContext = pickle.loads(pickle.dumps(kept[0]))

    assert (view.step_name, view.run_id, view.attempt) == ("keep", kept[0].run_id, 1)
    assert (view.broker, view.cancelled) == (None, False)
    view.progress(1)
    view.logger.info("said where it is")
    view.keep_line(logging.INFO, "kept nowhere")
    with pytest.raises(ContextUseError, match="process pool; take them as parameters"):
        await view.get_result("keep")


@contextlib.contextmanager
def _no_format_errors() -> Iterator[None]:
    """A line of a wrong format is reported by `logging` itself, to stderr."""
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    finally:
        logging.raiseExceptions = before
