"""An application with many middlewares: some that retry, one that breaks, some that take notes."""

import json
from typing import Any

from taskiq import (
    SimpleRetryMiddleware,
    SmartRetryMiddleware,
    TaskiqMessage,
    TaskiqMiddleware,
    TaskiqResult,
)

from taskiq_flow import PipelineContext, PipelineMiddleware
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.sender import STEP_TASK
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings
from tests.integration.apps.steps import journal, register


class Noting(TaskiqMiddleware):
    """Notes each call of a hook for a step, with what it saw."""

    def note(self, hook: str, message: TaskiqMessage, **more: Any) -> None:
        if message.task_name != STEP_TASK:
            facts = {"name": message.task_name, "id": message.task_id, "labels": message.labels}
            journal.write("hook", hook, json.dumps({**facts, **more}))

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        self.note("pre_execute", message)
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        self.note("post_execute", message, error=repr(result.error))

    def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        self.note("on_error", message, error=repr(exception))

    async def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        run = await RunClient.of(self.broker).find(message.labels["pipeline_id"])
        self.note("post_save", message, status=run.status)


class Breaking(TaskiqMiddleware):
    """Raises from every hook that is called around a step."""

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        if message.task_name != STEP_TASK:
            raise RuntimeError("pre_execute broke")
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        raise RuntimeError("post_execute broke")

    def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        raise RuntimeError("on_error broke")

    def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        raise RuntimeError("post_save broke")


class Watching(PipelineMiddleware):
    """Notes what the middleware tells its subclasses."""

    async def on_step_start(self, ctx: PipelineContext) -> None:
        journal.write(type(self).__name__, "start", ctx.step_name)

    async def on_step_complete(self, ctx: PipelineContext, result: Any) -> None:
        journal.write(type(self).__name__, "complete", f"{ctx.step_name} {result}")

    async def on_step_error(self, ctx: PipelineContext, error: BaseException) -> None:
        journal.write(type(self).__name__, "error", f"{ctx.step_name} {error}")


class WatchingToo(Watching):
    """Another class that wants to hear of steps; its hooks break after that."""

    async def on_step_start(self, ctx: PipelineContext) -> None:
        await super().on_step_start(ctx)
        raise RuntimeError("on_step_start broke")


broker = make_broker(AppSettings.from_env())
broker.add_middlewares(
    Noting(),
    SimpleRetryMiddleware(default_retry_label=True),
    PipelineMiddleware(),
    PipelineMiddleware(),
    Watching(),
    Watching(),
    WatchingToo(),
    SmartRetryMiddleware(default_retry_label=True),
    Breaking(),
)
register(broker)
