"""Tasks that the tests of the compiler make plans of."""

from collections.abc import AsyncIterator

from taskiq import Context, InMemoryBroker, TaskiqDepends

from taskiq_flow.compile import Routing
from taskiq_flow.context import PipelineContext
from taskiq_flow.dataflow import pipeline_task

broker = InMemoryBroker()

ROUTING = Routing(lambda labels: f"q:{labels.get('queue_name', '')}", lambda _labels: "")


@broker.task
async def add(x: int, y: int = 1) -> int: ...


@broker.task
async def join(left: str, right: str) -> str: ...


@broker.task
def nothing() -> int: ...


@broker.task
def total(values: list[int], scale: int = 1) -> int: ...


@broker.task
def gather(first: int, /, *rest: int, **named: int) -> list[int]: ...


@broker.task
def watched(
    context: PipelineContext,
    x: int,
    request: Context = TaskiqDepends(),  # noqa: B008
) -> int: ...


@broker.task
def takes_all(context: PipelineContext, **named: int) -> int: ...


@broker.task
def asks_by_name(x: int, context) -> int: ...


@broker.task
async def stream(n: int) -> AsyncIterator[int]:
    yield n


@broker.task
@pipeline_task(output="features")
def extract(tracks: list[str]) -> list[str]: ...


@broker.task
@pipeline_task(outputs=["low", "high"])
def split(features: list[str]) -> tuple[str, str]: ...


@broker.task
@pipeline_task(output="report")
def report(low: str, high: str, title: str = "Report") -> str: ...


@broker.task
def shorten(high: str) -> str: ...
