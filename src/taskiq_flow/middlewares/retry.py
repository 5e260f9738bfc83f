"""Retries for all tasks of a broker: plain ones get them, steps get them as their default."""

from __future__ import annotations

import logging
import random
from collections import Counter
from typing import Any

from taskiq import (
    AsyncBroker,
    SimpleRetryMiddleware,
    SmartRetryMiddleware,
    TaskiqMessage,
    TaskiqMiddleware,
    TaskiqResult,
)
from taskiq.exceptions import NoResultError

from taskiq_flow.compile import ExceptionKinds, check_retry
from taskiq_flow.engine.adoption import adopt
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.defaults import default_retries
from taskiq_flow.engine.invoke import StepMessage
from taskiq_flow.engine.sender import STEP_TASK
from taskiq_flow.exceptions import (
    AbortPipeline,
    ConfigurationError,
    InvalidTaskOptionError,
    StoreError,
)
from taskiq_flow.middlewares.dead_letters import DLQManager
from taskiq_flow.model.numbers import check_count, is_count
from taskiq_flow.model.retry import NamedTask, RetryPolicy, backoff_pause

__all__ = [
    "DLQManager",
    "PipelineRetryMiddleware",
    "RetryMiddleware",
    "calculate_exponential_backoff_delay",
]

logger = logging.getLogger("taskiq_flow.retry")

_random = random.Random()  # noqa: S311 - draws jitter


class RetryMiddleware(TaskiqMiddleware):
    """Tries failed tasks again, durably; add it to the broker of clients and workers.

    ``max_retries`` counts tries after the first; times are in seconds. A task's own labels and
    ``@pipeline_task`` go before this, ``retry_on_error=False`` turns it off for one.

    A plain task that fails becomes a run under its task id. Its retries wait in the run store,
    whatever happens to workers, and the result goes to the result backend under the same id. One
    that fails for good is a dead letter, which `DLQManager` lists; those of a ``dlq_queue`` can be
    listed apart. For steps of pipelines this is the policy where nothing else was said; they are
    retried by their run as ever.

    ``retry_counts`` counts failed tries by task name, as far as this process has seen them.
    """

    def __init__(  # noqa: PLR0913 - each is one field of the policy
        self,
        max_retries: int = 3,
        delay: float = 1.0,
        backoff: float = 2.0,
        jitter: bool = True,
        max_retry_time: float | None = None,
        *,
        max_delay: float = 300.0,
        retry_on: ExceptionKinds = (),
        no_retry_on: ExceptionKinds = (),
        on_retry: str | NamedTask | None = None,
        dlq_queue: str | None = None,
    ) -> None:
        super().__init__()
        self.policy = check_retry(
            RetryPolicy(
                max_attempts=_tries(max_retries),
                delay=delay,
                backoff=backoff,
                max_delay=max_delay,
                jitter=jitter,
                max_total=max_retry_time,
                retry_on=retry_on,
                no_retry_on=no_retry_on,
                on_retry=on_retry,
            )
        )
        self.max_retries, self.delay, self.backoff = max_retries, delay, backoff
        self.jitter, self.max_retry_time, self.dlq_queue = jitter, max_retry_time, dlq_queue
        self.retry_counts: Counter[str] = Counter()

    def set_broker(self, broker: AsyncBroker) -> None:
        super().set_broker(broker)
        default_retries[broker] = self.policy

    async def startup(self) -> None:
        """Make sure of a run store, and say so if another middleware retries the same tasks.

        Raises:
            NoStoreError: The broker has workers elsewhere, and no store is configured.
        """
        RunClient.of(self.broker)
        for other in self.broker.middlewares:
            if isinstance(other, (SimpleRetryMiddleware, SmartRetryMiddleware)):
                logger.warning(
                    "%s and %s are both on this broker, so plain tasks are retried twice; "
                    "remove the former.", type(other).__name__, type(self).__name__,
                )  # fmt: skip

    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        """Take a failed plain task over; steps are in their run already."""
        if message.task_name == STEP_TASK or isinstance(exception, (NoResultError, AbortPipeline)):
            return
        self.retry_counts[message.task_name] += 1
        if isinstance(message, StepMessage) or {"pipeline_id", "step"} <= message.labels.keys():
            return
        try:
            again = await adopt(
                self.broker,
                message,
                exception,
                default=self.policy,
                elapsed=result.execution_time,
                tags=() if self.dlq_queue is None else (self.dlq_queue,),
            )
        except (ConfigurationError, StoreError) as error:
            logger.warning(
                "Task %s (%s) failed and cannot be retried: %s",
                message.task_name, message.task_id, error,
            )  # fmt: skip
            return
        if again:
            # Its result comes from the run; until then there is none.
            result.error = NoResultError()


class PipelineRetryMiddleware(RetryMiddleware):
    """The same under the name of the pipeline guides; a retry starts within five minutes."""

    def __init__(
        self,
        max_retries: int = 3,
        delay: float = 1.0,
        backoff: float = 2.0,
        jitter: bool = True,
        max_retry_time: float | None = 300.0,
        **more: Any,
    ) -> None:
        super().__init__(max_retries, delay, backoff, jitter, max_retry_time, **more)


def calculate_exponential_backoff_delay(
    attempt: int,
    base_delay: float = 1.0,
    backoff: float = 2.0,
    jitter: bool = True,
    max_delay: float = 300.0,
) -> float:
    """Seconds to wait after the failed try ``attempt`` (from 1), as a `RetryPolicy` has it.

    Raises:
        InvalidTaskOptionError: One of the numbers is none, or makes no sense.
    """
    check_count("attempt", attempt, least=0)
    check_retry(RetryPolicy(delay=base_delay, backoff=backoff, max_delay=max_delay, jitter=jitter))
    pause = backoff_pause(attempt, base_delay, backoff, max_delay)
    return pause * (1 + 0.25 * _random.random()) if jitter else pause


def _tries(max_retries: int) -> int:
    if not is_count(max_retries, 0):
        raise InvalidTaskOptionError(
            "max_retries", max_retries, "must be a whole number, 0 or more"
        )
    return max_retries + 1
