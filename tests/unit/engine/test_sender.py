"""Which messages leave for slots that are ready."""

import asyncio
import json
import logging
import math
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from taskiq import AckableMessage, AsyncBroker, BrokerMessage, TaskiqMessage, TaskiqMiddleware
from taskiq.receiver import Receiver

from taskiq_flow import PipelineMiddleware
from taskiq_flow.engine.hooks import Hooks
from taskiq_flow.engine.sender import SLOTS_PER_MESSAGE, STEP_TASK, Sender
from taskiq_flow.model.records import Address, Ready


class RecordingBroker(AsyncBroker):
    """Keeps what it is given; away, it takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[BrokerMessage] = []
        self.away = False

    async def kick(self, message: BrokerMessage) -> None:
        if self.away:
            raise ConnectionError("the broker is away")
        self.taken.append(message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        for message in self.taken:
            yield message.message

    @property
    def announced(self) -> list[list[str]]:
        """The runs that each message names."""
        return [
            [slot[0] for slot in json.loads(message.message)["args"][0]] for message in self.taken
        ]


def ready(run_id: str, *, queue: str = "queue", route: str = "") -> Ready:
    return Ready(Address(run_id, 0, 0), queue, route, "task")


async def test_runs_that_start_together_share_messages() -> None:
    broker = RecordingBroker()
    sender = Sender(broker, Hooks(broker))
    runs = [f"run-{number}" for number in range(250)]

    await asyncio.gather(*[sender.send([ready(run)]) for run in runs])

    assert [len(slots) for slots in broker.announced] == [SLOTS_PER_MESSAGE, SLOTS_PER_MESSAGE, 50]
    assert [run for slots in broker.announced for run in slots] == runs


async def test_what_goes_to_another_queue_or_by_another_route_gets_another_message() -> None:
    broker = RecordingBroker()
    sender = Sender(broker, Hooks(broker))
    other_queue = ready("b", queue="other", route='{"queue_name":"other"}')
    urgent = ready("c", route='{"priority":9}')

    await asyncio.gather(*[sender.send([entry]) for entry in (ready("a"), other_queue, urgent)])

    assert broker.announced == [["a"], ["b"], ["c"]]
    assert [message.labels.get("priority") for message in broker.taken] == [None, None, "9"]


async def test_slots_that_are_to_go_apart_do_not_share() -> None:
    broker = RecordingBroker()
    sender = Sender(broker, Hooks(broker))

    await sender.send([ready("a"), ready("b")], apart=True)

    assert broker.announced == [["a"], ["b"]]


async def test_a_middleware_that_marks_messages_marks_those_of_each_caller() -> None:
    """A trace or a tenant belongs to the caller; a shared message could carry only one."""

    class Tenant(TaskiqMiddleware):
        def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            task = asyncio.current_task()
            message.labels["tenant"] = "" if task is None else task.get_name()
            return message

    broker = RecordingBroker()
    broker.add_middlewares(Tenant())
    sender = Sender(broker, Hooks(broker))

    async with asyncio.TaskGroup() as callers:
        for name in ("red", "blue"):
            callers.create_task(sender.send([ready(name)]), name=name)

    assert broker.announced == [["red"], ["blue"]]
    assert [message.labels["tenant"] for message in broker.taken] == ["red", "blue"]


async def test_each_caller_hears_which_of_its_own_slots_were_not_sent() -> None:
    broker = RecordingBroker()
    broker.away = True
    sender = Sender(broker, Hooks(broker))

    unsent = await asyncio.gather(sender.send([ready("a")]), sender.send([ready("b"), ready("c")]))

    assert unsent == [[ready("a")], [ready("b"), ready("c")]]


@pytest.mark.parametrize(
    "slots", [None, "x", 5, {"a": 1}, [["run", 0]], [["run", "a", 0]], [["run", 0, math.inf]]]
)
async def test_a_message_that_names_no_slots_is_acknowledged_and_left(
    slots: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a broker would bring it again for ever."""
    broker = RecordingBroker()
    broker.add_middlewares(PipelineMiddleware(store=f"sqlite:///{tmp_path / 'runs.db'}"))
    message = TaskiqMessage(
        task_id="1", task_name=STEP_TASK, labels={"ack_type": "manual"}, args=[slots], kwargs={}
    )
    acknowledged: list[bool] = []

    async def acknowledge() -> None:
        acknowledged.append(True)

    receiver = Receiver(broker, executor=None, run_startup=False)
    data = broker.formatter.dumps(message).message
    with caplog.at_level(logging.WARNING, "taskiq_flow.engine"):
        await receiver.callback(AckableMessage(data=data, ack=acknowledge))
    await broker.shutdown()

    assert acknowledged == [True]
    assert "names no slots" in caplog.text
