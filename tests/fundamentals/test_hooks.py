"""A subclass of the middleware hears of steps."""

from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineContext, PipelineError, PipelineMiddleware


class Listening(PipelineMiddleware):
    """Notes what it is told."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self.heard = heard

    async def on_step_start(self, ctx: PipelineContext) -> None:
        self.heard.append(f"{ctx.step_name} starts")

    async def on_step_complete(self, ctx: PipelineContext, result: Any) -> None:
        self.heard.append(f"{ctx.step_name} gave {result}")

    async def on_step_error(self, ctx: PipelineContext, error: BaseException) -> None:
        self.heard.append(f"{ctx.step_name} failed: {error}")


async def test_hooks_are_called_around_each_step(broker: InMemoryBroker) -> None:
    """Nobody has called ``broker.startup()`` here, and the class is on the broker twice."""
    heard: list[str] = []
    broker.add_middlewares(PipelineMiddleware(), Listening(heard), Listening(heard))

    @broker.task
    def double(value: int) -> int:
        return value * 2

    @broker.task
    def refuse(value: int) -> int:
        raise ValueError(f"not {value}")

    task = await Pipeline(broker, double).call_next(refuse).kiq(2)
    with pytest.raises(PipelineError):
        await task.wait_result()
    await broker.wait_all()

    assert heard == [
        "double starts",
        "double gave 4",
        "refuse starts",
        "refuse failed: not 4",
    ]


async def test_a_hook_may_be_an_ordinary_function_and_may_raise(
    broker: InMemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    class Plain(PipelineMiddleware):
        def on_step_start(self, ctx: PipelineContext) -> None:
            raise RuntimeError("this hook is broken")

        def on_step_complete(self, ctx: PipelineContext, result: Any) -> None:
            heard.append(f"{ctx.step_name} gave {result}")

    broker.add_middlewares(Plain())

    @broker.task
    def double(value: int) -> int:
        return value * 2

    task = await Pipeline(broker, double).kiq(2)
    assert (await task.wait_result()).return_value == 4
    await broker.wait_all()

    assert heard == ["double gave 4"]
    assert "on_step_start of Plain failed" in caplog.text
    assert "can't be used in 'await'" not in caplog.text
