"""The steps that tests run on workers; each leaves notes in the application's journal."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Annotated, Any

from taskiq import AsyncBroker, Context, TaskiqDepends

from taskiq_flow import Pipeline
from taskiq_flow.context import PipelineContext


@dataclass(frozen=True)
class Note:
    """One line of a journal: which step did what, in which process, when (system clock)."""

    step: str
    what: str
    pid: int
    at: float
    key: str = ""


class Journal:
    """A file to which all processes of an application append."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, step: str, what: str, key: object = "") -> None:
        line = json.dumps([step, what, os.getpid(), time.time(), str(key)]) + "\n"
        # One write to a file that is opened to append is not mixed with others.
        with self.path.open("a") as file:
            file.write(line)

    def notes(self, step: str | None = None, what: str | None = None) -> list[Note]:
        return [
            note for note in self._read() if step in (None, note.step) and what in (None, note.what)
        ]

    def _read(self) -> Iterator[Note]:
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                yield Note(*json.loads(line))


journal = Journal(Path(os.environ.get("FLOW_APP_JOURNAL", os.devnull)))


async def add(value: int, other: int = 1) -> int:
    return value + other


async def add_noted(value: int) -> int:
    journal.write("add_noted", "ran", value)
    return value + 1


def where(previous: list[int]) -> list[int]:
    """The processes that the steps of a chain ran in."""
    return [*previous, os.getpid()]


async def numbers(count: int) -> list[int]:
    return list(range(count))


async def stream(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def square(value: int) -> int:
    return value * value


async def total(values: list[int]) -> int:
    return sum(values)


async def left(source: int) -> int:
    return source + 1


async def right(source: int) -> int:
    return source * 10


async def join(left: int, right: int) -> int:
    return left + right


async def fails(value: int) -> int:
    raise ValueError(f"no {value} here")


async def flaky(key: str, failures: int) -> int:
    """Fail so often for a key; return how often it was tried."""
    journal.write("flaky", "ran", key)
    tries = len([note for note in journal.notes("flaky", "ran") if note.key == key])
    if tries <= failures:
        raise ConnectionError(f"try {tries}")
    return tries


async def pause(seconds: float) -> str:
    """Wait without blocking; note when it begins, is cancelled, and ends."""
    journal.write("pause", "began", seconds)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        journal.write("pause", "cancelled", seconds)
        raise
    journal.write("pause", "ended", seconds)
    return "rested"


async def pause_once() -> str:
    """Wait for ever the first time that it is called, and not at all the second time."""
    before = len(journal.notes("pause_once", "began"))
    journal.write("pause_once", "began")
    if before:
        return "second time"
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        journal.write("pause_once", "cancelled")
        raise
    return "never"


def hold(seconds: float, context: PipelineContext) -> str:
    """Block a thread; note when it begins and ends."""
    journal.write("hold", "began", context.attempt)
    time.sleep(seconds)
    journal.write("hold", "ended", context.attempt)
    return "held"


async def asks_again(key: str, context: Annotated[Context, TaskiqDepends()]) -> str:
    """Ask to be run again the first time."""
    before = [note for note in journal.notes("asks_again", "ran") if note.key == key]
    journal.write("asks_again", "ran", key)
    if not before:
        await context.requeue()
    return "once more"


async def opened() -> AsyncIterator[str]:
    """A resource that is closed when its step has ended."""
    journal.write("opened", "opened")
    yield "resource"
    journal.write("opened", "closed")


async def breaks_on_close() -> AsyncIterator[str]:
    yield "resource"
    raise OSError("the resource does not close")


async def uses(
    value: int,
    resource: Annotated[str, TaskiqDepends(opened)],
    context: Annotated[Context, TaskiqDepends()],
) -> list[Any]:
    return [value, resource, context.message.task_name, context.is_ackable]


async def uses_what_breaks(value: int, resource: str = TaskiqDepends(breaks_on_close)) -> int:
    journal.write("uses_what_breaks", "ran")
    return value


async def start_another(value: int, context: PipelineContext) -> int:
    """Start another run and wait for its result."""
    assert context.broker is not None
    inner = context.broker.find_task("add")
    assert inner is not None
    task = await Pipeline(context.broker, inner).kiq(value)
    result = await task.wait_result(timeout=60)
    return result.return_value + 100


def start_apart(value: int, context: PipelineContext) -> str:
    """Start another run in an event loop of its own; return the other run's id."""

    async def start() -> str:
        assert context.broker is not None
        inner = context.broker.find_task("add")
        assert inner is not None
        return (await Pipeline(context.broker, inner).kiq(value)).run_id

    return asyncio.run(start())


FUNCTIONS = {
    function.__name__: function
    for function in (
        add, add_noted, where, numbers, stream, square, total, left, right, join, fails, flaky,
        pause, pause_once, hold, start_another, start_apart, asks_again, uses, uses_what_breaks,
    )
}  # fmt: skip


def register(broker: AsyncBroker, *, without: str = "", **labels: dict[str, Any]) -> None:
    """Register the steps under their own names; ``labels`` by step."""
    for name, function in FUNCTIONS.items():
        if name != without:
            broker.register_task(_copy(function), task_name=name, **labels.get(name, {}))


def _copy(function: FunctionType) -> FunctionType:
    """Taskiq renames the function that it registers; a process may have several brokers."""
    copied = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )
    copied.__annotations__ = dict(function.__annotations__)
    copied.__module__ = function.__module__
    return copied
