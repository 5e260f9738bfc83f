"""Traces show a run, its steps and their tries as one tree, below the span that started it."""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import StatusCode
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineError, PipelineMiddleware
from taskiq_flow.engine.runtime import runtimes
from taskiq_flow.tracing import TracingMiddleware
from tests.integration.workers.harness import eventually


class Traced:
    """A broker that is traced, its tasks, and the spans that came out."""

    def __init__(self, broker: InMemoryBroker, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("user")
        self.broker = broker
        broker.add_middlewares(TracingMiddleware(self.provider))
        self.failed: set[int] = set()

        async def double(value: int) -> int:
            with self.tracer.start_as_current_span("in double"):
                trace.get_current_span().set_attribute("mine", value)
            return 2 * value

        def sync_double(value: int) -> int:
            trace.get_current_span().set_attribute("mine", value)
            with self.tracer.start_as_current_span("in thread"):
                return 2 * value

        async def fails_once(value: int) -> int:
            if value not in self.failed:
                self.failed.add(value)
                raise ValueError(f"not yet {value}")
            return value

        async def fails(value: Any) -> None:
            raise LookupError("never")

        async def rests(value: Any) -> None:
            await asyncio.sleep(600)

        for task in (double, sync_double, fails_once, fails, rests):
            setattr(self, task.__name__, broker.register_task(task, task_name=task.__name__))

    def spans(self) -> list[ReadableSpan]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time)

    async def has(self, name: str, number: int = 1) -> None:
        await eventually(lambda: sum(span.name == name for span in self.spans()) >= number)

    def tree(self) -> list[Any]:
        """The names of all spans, each with those below it."""
        spans = self.spans()
        known = {span.context.span_id for span in spans}

        def below(parent: int | None) -> list[Any]:
            return [
                [span.name, below(span.context.span_id)]
                if below(span.context.span_id)
                else span.name
                for span in spans
                if (span.parent.span_id if span.parent and span.parent.span_id in known else None)
                == parent
            ]

        return below(None)

    def named(self, name: str) -> ReadableSpan:
        return next(span for span in self.spans() if span.name == name)


@pytest.fixture
def traced(broker: InMemoryBroker) -> Traced:
    return Traced(broker)


async def test_a_run_is_one_tree_below_its_caller(traced: Traced) -> None:
    pipeline = Pipeline(traced.broker, traced.double).call_next(traced.sync_double)
    with traced.tracer.start_as_current_span("caller"):
        task = await pipeline.with_name("two").kiq(1)
    await task.wait_result()
    await traced.has("step sync_double")

    assert traced.tree() == [
        [
            "caller",
            [
                [
                    "pipeline two",
                    [
                        ["step double", [["attempt double", ["in double"]]]],
                        ["step sync_double", [["attempt sync_double", ["in thread"]]]],
                    ],
                ]
            ],
        ]
    ]
    assert len({span.context.trace_id for span in traced.spans()}) == 1
    assert traced.named("attempt sync_double").attributes["mine"] == 2
    assert traced.named("pipeline two").attributes["taskiq_flow.run_id"] == task.run_id
    whole, step = traced.named("pipeline two"), traced.named("step double")
    assert whole.start_time <= step.start_time <= step.end_time <= whole.end_time


async def test_each_try_of_a_step_and_of_an_item_has_a_span_with_its_error(traced: Traced) -> None:
    again = Pipeline(traced.broker, traced.fails_once).with_retry(max_attempts=2, delay=0.001)
    await (await again.kiq(1)).wait_result()
    many = Pipeline(traced.broker).map(traced.fails_once, [5, 6])
    await (await many.with_retry(max_attempts=2, delay=0.001).kiq()).wait_result()
    await traced.has("step fails_once", 2)

    tries = [span for span in traced.spans() if span.name == "attempt fails_once"]
    first, second, *items = tries
    assert (first.status.status_code, second.status.status_code) == (
        StatusCode.ERROR,
        StatusCode.UNSET,
    )
    assert first.events[0].attributes["exception.type"] == "ValueError"
    assert "not yet 1" in first.events[0].attributes["exception.stacktrace"]
    assert [span.attributes["taskiq_flow.attempt"] for span in (first, second)] == [1, 2]
    assert first.parent.span_id == second.parent.span_id
    assert sorted(span.attributes["taskiq_flow.item"] for span in items) == [0, 0, 1, 1]


async def test_a_run_that_fails_says_where_and_its_retry_is_linked_to_it(traced: Traced) -> None:
    task = await Pipeline(traced.broker, traced.fails).with_name("bad").kiq(1)
    with pytest.raises(PipelineError):
        await task.wait_result()
    again = await task.retry()
    with pytest.raises(PipelineError):
        await again.wait_result()
    await traced.has("step fails", 2)

    first, second = (span for span in traced.spans() if span.name == "pipeline bad")
    assert "failed at step 'fails': LookupError: never" in first.status.description
    step = traced.named("step fails")
    assert step.status.description == "LookupError: never"
    assert "raise LookupError" in step.events[0].attributes["exception.stacktrace"]
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert second.context.trace_id == first.context.trace_id


async def test_a_cancelled_run_has_its_spans_at_once() -> None:
    traced = Traced(InMemoryBroker())
    task = await Pipeline(traced.broker, traced.rests).with_name("long").kiq(1)
    async for event in task.events():
        if event.type == "step_started":
            break
    await task.cancel("enough")
    async with asyncio.timeout(3):  # looking for what is left would take up to five
        await traced.has("attempt rests")
        await traced.has("pipeline long")

    assert traced.named("pipeline long").attributes["taskiq_flow.reason"] == "enough"
    attempt = traced.named("attempt rests")
    assert attempt.attributes["taskiq_flow.status"] == "CANCELLED"
    assert attempt.status.status_code is StatusCode.UNSET
    await traced.broker.shutdown()


async def test_a_pipeline_that_is_a_step_is_below_that_step(traced: Traced) -> None:
    # Two are told of the end of one that may have to be taken back.
    inner = Pipeline(traced.broker, traced.sync_double).on_failure(traced.fails).with_name("inner")
    task = await Pipeline(traced.broker).map(inner, [1, 2]).with_name("outer").kiq()
    await task.wait_result()
    await traced.has("pipeline outer")

    outer = next(found for found in traced.tree() if found[0] == "pipeline outer")
    (_, (step,)) = outer
    children = [found for found in step[1] if found[0] == "pipeline inner"]
    assert (
        children
        == [
            [
                "pipeline inner",
                [["step sync_double", [["attempt sync_double", ["in thread"]]]]],
            ]
        ]
        * 2
    )


async def test_a_second_middleware_doubles_nothing(broker: InMemoryBroker) -> None:
    traced = Traced(broker)
    broker.add_middlewares(PipelineMiddleware(), TracingMiddleware(traced.provider))
    await (await Pipeline(broker, traced.double).kiq(1)).wait_result()
    await traced.has("pipeline double")

    assert traced.tree() == [
        ["pipeline double", [["step double", [["attempt double", ["in double"]]]]]]
    ]


@pytest.mark.parametrize("caller", ["not recorded", "none"])
async def test_what_is_not_sampled_is_not_traced_and_neither_is_what_a_step_traces(
    broker: InMemoryBroker, caller: str
) -> None:
    """A ratio of none stands for one that left this run out."""
    sampler = ALWAYS_OFF if caller == "not recorded" else TraceIdRatioBased(0.0)
    traced = Traced(broker, sampler=ParentBased(sampler))
    with traced.tracer.start_as_current_span("caller"):
        task = await Pipeline(broker, traced.double).kiq(1)
    await task.wait_result()
    await broker.shutdown()

    assert traced.spans() == []


async def test_without_a_provider_nothing_is_traced_or_stored(broker: InMemoryBroker) -> None:
    broker.add_middlewares(TracingMiddleware())
    task = broker.register_task(lambda value: trace.get_current_span(), task_name="look")
    found = await Pipeline(broker, task).call_next(task).kiq(1)
    with pytest.raises(PipelineError):  # a span is no value
        await found.wait_result()

    run = await runtimes[broker].store.get(found.run_id)
    assert run is not None
    assert run.meta == b""


def hang() -> None:
    time.sleep(600)


def fail() -> None:
    raise RuntimeError("this exporter is broken")


def connect() -> None:
    socket.create_connection(("127.0.0.1", 1), timeout=600).close()


@pytest.mark.parametrize("answer", [fail, hang, connect], ids=["raises", "hangs", "unreachable"])
@pytest.mark.parametrize("place", ["exporter", "processor"])
async def test_an_exporter_that_does_not_work_costs_spans_only(
    answer: Callable[[], None], place: str
) -> None:
    """The time of forty steps is compared with that without it."""

    class Broken(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            answer()
            return SpanExportResult.FAILURE

    class BrokenProcessor(SimpleSpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            answer()

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        SimpleSpanProcessor(Broken()) if place == "exporter" else BrokenProcessor(Broken())
    )
    seconds: list[float] = []
    for middlewares in ([], [TracingMiddleware(provider)]):
        each = InMemoryBroker()
        each.add_middlewares(PipelineMiddleware(), *middlewares)
        task = each.register_task(increase, task_name="increase")
        pipeline = Pipeline(each, task)
        for _ in range(39):
            pipeline.call_next(task)
        await (await pipeline.kiq(0)).wait_result()
        began = time.perf_counter()
        result = await (await pipeline.kiq(0)).wait_result(timeout=20)
        seconds.append(time.perf_counter() - began)
        assert result.return_value == 40
        await each.shutdown()

    assert seconds[1] < 4 * seconds[0] + 0.5


async def increase(value: int) -> int:
    return value + 1
