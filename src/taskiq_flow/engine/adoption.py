"""Takes a failed plain task into the engine: what it did counts as the first try of a run."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from taskiq import AsyncBroker, TaskiqMessage

from taskiq_flow.codec import encode_error
from taskiq_flow.engine.asking import ask
from taskiq_flow.engine.calls import compile_call
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.ids import new_token
from taskiq_flow.engine.results import PLAIN_TASK_KIND
from taskiq_flow.model.records import Address, Failed, Grant, NewRun, Retry
from taskiq_flow.model.retry import RetryPolicy

STORE_TRIES = 4
"""The message of a plain task is not kept back for longer than this takes."""

_random = random.Random()  # noqa: S311 - draws jitter

_ADDED_LABELS = frozenset({"_retries", "timeout", "ack_type"})


async def adopt(
    broker: AsyncBroker,
    message: TaskiqMessage,
    error: BaseException,
    *,
    default: RetryPolicy,
    elapsed: float,
    tags: tuple[str, ...],
) -> bool:
    """Store a failed plain task as a run under its task id; True if it is tried again.

    Its later tries are steps: they wait without a worker, and survive every process. Its outcome
    goes to the broker's result backend under the same id, where its caller looks. One that may
    not be tried again is a failed run at once. Told twice of the same message, as after a crash,
    the store has one run.

    Raises:
        ConfigurationError: The call cannot be stored.
        StoreError: The store does not answer.
    """
    client = RunClient.of(broker)
    await client.open()
    task = broker.find_task(message.task_name)
    plan, inputs = compile_call(
        broker,
        task,
        message.args,
        message.kwargs,
        kind=PLAIN_TASK_KIND,
        name=message.task_name,
        retry=default,
        labels=_labels(message.labels, {} if task is None else task.labels),
    )
    policy = plan.steps[0].retry
    again = policy.allows(1, error, elapsed)
    new = NewRun(
        run_id=message.task_id,
        namespace=client.store.options.namespace,
        steps=plan.records,
        plan=plan.stored,
        kind=plan.kind,
        name=plan.name,
        tags=tags,
        inputs=inputs,
        publish=again and client.publishes,
        queue=plan.steps[0].queue,
    )
    address, token = Address(new.run_id, 0, 0), new_token()
    await ask(lambda: client.store.create(new), _random, tries=STORE_TRIES)
    grant = await ask(lambda: client.store.start(address, token), _random, tries=STORE_TRIES)
    if not isinstance(grant, Grant):
        return True  # the same message came before, and its run goes on
    stored = encode_error(error)
    pause = policy.pause(1, _random.random())
    outcome = Retry(stored, pause) if again else Failed(stored)
    if again:
        await client.runtime.dispatcher.tell_retry(grant, outcome)
    finished = await ask(
        lambda: client.store.finish(address, token, outcome, None), _random, tries=STORE_TRIES
    )
    for wake in finished.wakes:
        await client.runtime.settler.settle(wake)
    if again:
        client.runtime.recovery.look_in(pause)
    return again


def _labels(sent: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The labels of a message; what lost its type on the way is the task's own."""
    plain = {name: value for name, value in sent.items() if name not in _ADDED_LABELS}
    typed = {name: value for name, value in own.items() if not isinstance(value, (str, int, float))}
    return {**plain, **typed}
