"""Starts the task that a retry policy names, once for each failed try that is made again."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from taskiq import AsyncBroker
from taskiq.kicker import AsyncKicker

from taskiq_flow.codec import encode
from taskiq_flow.engine.asking import ask
from taskiq_flow.engine.calls import compile_call
from taskiq_flow.engine.ids import derived_run_id
from taskiq_flow.engine.program import load_program
from taskiq_flow.engine.results import describe, stored_exception
from taskiq_flow.engine.sender import Sender
from taskiq_flow.exceptions import ConfigurationError
from taskiq_flow.model.records import Grant, Items, NewRun, Outcome, Retry
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("taskiq_flow.engine")

ON_RETRY_KIND, ON_RETRY_OF = "on_retry", "on_retry_of"


@dataclass(slots=True)
class RetryCallbacks:
    """Starts ``on_retry`` tasks as runs of their own, before the retry itself is recorded.

    Their ids follow from the failed try: a worker that dies in between, and another one that
    makes the same try, start one run. ``publishes`` says whether anybody hears of its end.
    """

    broker: AsyncBroker
    store: RunStore
    sender: Sender
    publishes: Callable[[], bool] = bool
    random: random.Random = field(default_factory=random.Random)

    async def before_record(self, grant: Grant, outcome: Outcome) -> None:
        """Start the task for every retry in an outcome; one that cannot be called is logged."""
        step = load_program(grant.blob).step
        task = step.retry.on_retry
        if not isinstance(task, str):
            return
        for item, attempt, stored in _retries(grant, outcome):
            error = describe(stored_exception(stored, step.name))
            try:
                new = self._new_run(grant, step.name, task, item, attempt, error)
            except ConfigurationError as refused:
                logger.warning("on_retry of step %r was not called: %s", step.name, refused)
                return
            ready = await ask(lambda new=new: self.store.create(new), self.random)
            await self.sender.send(ready)

    def _new_run(
        self, grant: Grant, step: str, name: str, item: int | None, attempt: int, error: str
    ) -> NewRun:
        only_named: AsyncKicker[Any, Any] = AsyncKicker(name, self.broker, {})
        task = self.broker.find_task(name) or only_named
        label = f"on_retry of {step}"
        plan, inputs = compile_call(
            self.broker, task, (error, attempt), {}, kind=ON_RETRY_KIND, name=label
        )
        address = grant.address
        meta = {ON_RETRY_OF: address.run_id, "step": step, "item": item, "attempt": attempt}
        return NewRun(
            run_id=derived_run_id(
                grant.run_started_at, ON_RETRY_KIND, address.run_id, address.step, item, attempt
            ),
            namespace=self.store.options.namespace,
            steps=plan.records,
            plan=plan.stored,
            kind=plan.kind,
            name=plan.name,
            inputs=inputs,
            queue=plan.steps[0].queue,
            publish=self.publishes(),
            meta=encode(meta, where="meta data of the run"),
        )


def _retries(grant: Grant, outcome: Outcome) -> Iterator[tuple[int | None, int, bytes]]:
    """The item (if any), the number of the failed try and the stored error of each retry."""
    if isinstance(outcome, Retry):
        yield None, grant.attempt + 1, outcome.error
    elif isinstance(outcome, Items):
        attempts = {item.number: item.attempt for item in grant.items}
        for retry in outcome.retries:
            yield retry.number, attempts.get(retry.number, 0) + 1, retry.error
