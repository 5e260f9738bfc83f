"""Steps that wait: for time to pass, or for an event; no worker is held meanwhile."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import (
    EventTimeoutError,
    Pipeline,
    PipelineError,
    RunEndedError,
    RunNotFoundError,
    Task,
    send_event,
)
from taskiq_flow.exceptions import (
    BadArgumentsError,
    ConfigurationError,
    InvalidNameError,
    InvalidTaskOptionError,
)
from taskiq_flow.middleware import PipelineMiddleware


async def until_parked(task: Task) -> None:
    """Wait until a run waits for an event."""
    async for event in task.events():
        if event.type == "step_parked":
            return


async def test_a_chain_sleeps_and_the_value_passes_by(broker: InMemoryBroker) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    began = time.monotonic()
    task = await Pipeline(broker, double).sleep(0.2).call_next(double).kiq(1)
    result = await task.wait_result(timeout=10)

    assert result.return_value == 4
    assert time.monotonic() - began >= 0.2


async def test_a_run_can_begin_with_a_sleep(broker: InMemoryBroker) -> None:
    @broker.task
    def add(left: int, right: int) -> int:
        return left + right

    task = await Pipeline(broker).sleep(timedelta(milliseconds=50)).call_next(add).kiq(1, right=2)

    assert (await task.wait_result(timeout=10)).return_value == 3


async def test_the_payload_of_an_event_is_the_next_value(broker: InMemoryBroker) -> None:
    @broker.task
    def ask() -> str:
        return "please approve"

    @broker.task
    def answer(payload: dict[str, bool]) -> str:
        return "yes" if payload["approved"] else "no"

    task = await Pipeline(broker, ask).wait_for("approval", timeout=30).call_next(answer).kiq()
    await until_parked(task)
    await task.send_event("approval", {"approved": True})

    assert (await task.wait_result(timeout=10)).return_value == "yes"
    assert task.partial_results == {}
    assert (await task.get_partial_results())["approval"] == {"approved": True}


async def test_an_event_that_comes_early_is_not_lost(broker: InMemoryBroker) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @broker.task
    async def slow() -> None:
        begun.set()
        await go_on.wait()

    pipeline = Pipeline(broker, slow).wait_for("go").with_id("early")
    starting = asyncio.ensure_future(pipeline.kiq())
    await begun.wait()

    await send_event("early", "go", 7, broker=broker)
    go_on.set()

    task = await starting
    assert (await task.wait_result(timeout=10)).return_value == 7


async def test_a_run_can_begin_by_waiting(broker: InMemoryBroker) -> None:
    pipeline = Pipeline(broker).wait_for("go")
    task = await pipeline.kiq()
    await send_event(task.run_id, "go", [1], broker=broker)

    assert (await task.wait_result(timeout=10)).return_value == [1]
    with pytest.raises(BadArgumentsError, match="without arguments"):
        await pipeline.kiq(5)


async def test_an_event_can_be_sent_through_the_store_alone(broker: InMemoryBroker) -> None:
    middleware = PipelineMiddleware()
    broker.add_middlewares(middleware)
    task = await Pipeline(broker).wait_for("go").kiq()

    await send_event(task.run_id, "go", store=middleware.runtime.store)

    assert (await task.wait_result(timeout=10)).return_value is None


async def test_an_event_from_where_no_message_can_be_sent_is_found_at_the_next_look(
    broker: InMemoryBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No message is waited for that nobody sends; else it would be for an hour."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    monkeypatch.setenv("TASKIQ_FLOW_KICK_SECONDS", "3600")
    broker.add_middlewares(PipelineMiddleware(store=url))
    keep = broker.register_task(lambda value: value, task_name="keep")
    task = await Pipeline(broker).wait_for("go").call_next(keep).kiq()

    await send_event(task.run_id, "go", [1], store=url)

    assert (await task.wait_result(timeout=20)).return_value == [1]


async def test_an_event_that_does_not_come_fails_the_run_by_name(broker: InMemoryBroker) -> None:
    task = await Pipeline(broker).wait_for("approval", timeout=0.05).kiq()

    with pytest.raises(PipelineError, match=r"waited 0.05 s for the event 'approval'") as caught:
        await task.wait_result(timeout=10)
    assert isinstance(caught.value.__cause__, EventTimeoutError)
    assert task.failed_step == "approval"


async def test_an_event_for_a_run_that_is_not_or_has_ended_is_refused(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    task = await Pipeline(broker, double).with_id("short").kiq(1)
    await task.wait_result(timeout=10)

    with pytest.raises(RunEndedError, match=r"'go' was not delivered.*has ended \(COMPLETED\)"):
        await task.send_event("go")
    with pytest.raises(RunEndedError):
        await send_event("short", "go", broker=broker)
    with pytest.raises(RunNotFoundError, match="'nobody'"):
        await send_event("nobody", "go", broker=broker)
    with pytest.raises(ConfigurationError, match="either broker= or store="):
        await send_event("short", "go")


async def test_a_sleeping_and_a_waiting_run_are_cancelled_at_once(broker: InMemoryBroker) -> None:
    ran: list[int] = []

    @broker.task
    def note(value: int) -> None:
        ran.append(value)

    sleeping = await Pipeline(broker).sleep(3600).call_next(note).kiq(1)
    waiting = await Pipeline(broker).wait_for("go").call_next(note).kiq()

    assert await sleeping.cancel()
    assert await waiting.cancel()

    assert str(await sleeping.get_status()) == str(await waiting.get_status()) == "CANCELLED"
    with pytest.raises(RunEndedError):
        await waiting.send_event("go", 1)
    assert ran == []


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_time_that_makes_no_sense_is_refused_at_once(
    broker: InMemoryBroker, seconds: float
) -> None:
    with pytest.raises(InvalidTaskOptionError, match="Sleep must be"):
        Pipeline(broker).sleep(seconds)
    with pytest.raises(InvalidTaskOptionError, match="Timeout must be"):
        Pipeline(broker).wait_for("go", timeout=seconds)
    with pytest.raises(InvalidNameError, match=r"Event .* must be text of 1 to"):
        Pipeline(broker).wait_for("")


def test_pictures_show_what_is_waited_for(broker: InMemoryBroker) -> None:
    nodes = Pipeline(broker).sleep(90).wait_for("go", timeout=5).to_view().nodes

    assert [(node.label, node.kind, node.detail) for node in nodes] == [
        ("sleep", "sleep", "90 s"),
        ("go", "wait_for", "at most 5 s"),
    ]
