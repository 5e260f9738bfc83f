"""A coroutine without hooks and dependencies is awaited directly, and nobody can tell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Annotated, Any

import pytest
from taskiq import (
    AsyncBroker,
    Context,
    InMemoryBroker,
    NoResultError,
    TaskiqDepends,
    TaskiqMessage,
    TaskiqMiddleware,
    TaskiqResult,
)

from taskiq_flow import Pipeline


class Errors(TaskiqMiddleware):
    """Hears of failures only, so it does not stand around calls."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[Any], bool, str]] = []

    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        self.seen.append((message.task_name, message.args, result.is_err, str(exception)))


class Broken(TaskiqMiddleware):
    """Fails while it is told of a failure."""

    def on_error(self, *_: Any) -> None:
        raise RuntimeError("this middleware is broken")


async def failed(broker: AsyncBroker, task: Any) -> tuple[BaseException | None, str]:
    run = await Pipeline(broker, task).kiq(7)
    return (await run.wait_result(timeout=10, raise_on_error=False)).error, run.run_id


async def test_a_middleware_for_errors_hears_of_each_one(
    broker: AsyncBroker, caplog: pytest.LogCaptureFixture
) -> None:
    errors = Errors()
    broker.add_middlewares(errors, Broken())

    @broker.task(task_name="breaks")
    async def breaks(value: int, /) -> int:
        raise ValueError(f"no {value}")

    with caplog.at_level(logging.ERROR):
        error, run_id = await failed(broker, breaks)

    assert "no 7" in str(error)
    assert errors.seen == [("breaks", [7], True, "no 7")]
    logged = {record.name: record.getMessage() for record in caplog.records}
    assert logged["taskiq.receiver.receiver"] == (
        f"Exception found while executing function of step 'breaks', run {run_id}, try 1."
    )
    assert logged["taskiq_flow.engine"] == "on_error of Broken failed"


async def test_a_step_that_is_cancelled_leaves_no_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = InMemoryBroker()
    begun, stopped = asyncio.Event(), asyncio.Event()

    @broker.task
    async def hang(value: int) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    with caplog.at_level(logging.INFO):
        async with asyncio.timeout(20):
            run = await Pipeline(broker, hang).kiq(7)
            await begun.wait()
            await run.cancel("enough")
            await stopped.wait()
            await broker.shutdown()

    assert any("was stopped" in record.getMessage() for record in caplog.records)
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_step_that_wants_to_end_the_worker_only_fails(broker: AsyncBroker) -> None:
    @broker.task
    async def leave(value: int) -> int:
        raise SystemExit(value)

    assert "SystemExit" in repr((await failed(broker, leave))[0])


async def test_what_a_coroutine_gives_to_be_awaited_is_awaited_too(broker: AsyncBroker) -> None:
    @broker.task
    async def later(value: int) -> Awaitable[int]:
        return asyncio.sleep(0, value + 1)

    run = await Pipeline(broker, later).kiq(7)

    assert (await run.wait_result(timeout=10)).return_value == 8


async def test_a_step_that_asks_to_be_run_again_is(broker: AsyncBroker) -> None:
    calls: list[int] = []

    @broker.task
    async def second_time(value: int) -> int:
        calls.append(value)
        if len(calls) == 1:
            raise NoResultError
        return value

    run = await Pipeline(broker, second_time).kiq(7)

    assert (await run.wait_result(timeout=20)).return_value == 7
    assert calls == [7, 7]


async def test_dependencies_are_filled_in_all_the_same(broker: AsyncBroker) -> None:
    @broker.task(task_name="whoami")
    async def whoami(value: int, context: Annotated[Context, TaskiqDepends()]) -> str:
        return f"{context.message.task_name} {value}"

    run = await Pipeline(broker, whoami).kiq(7)

    assert (await run.wait_result(timeout=10)).return_value == "whoami 7"


class Before(TaskiqMiddleware):
    """Sees each call before it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        self.seen.append(message.task_name)
        return message


async def test_a_middleware_that_is_added_between_runs_sees_the_steps_of_the_next_one(
    broker: AsyncBroker,
) -> None:
    @broker.task(task_name="plain")
    async def plain(value: int) -> int:
        return value

    chain = Pipeline(broker, plain).call_next(plain)
    await (await chain.kiq(1)).wait_result(timeout=10)
    before = Before()
    broker.add_middlewares(before)
    await (await chain.kiq(1)).wait_result(timeout=10)

    assert before.seen.count("plain") == 2
