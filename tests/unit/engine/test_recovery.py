"""What ended runs leave to be done keeps no step from being sent, however long it takes."""

import asyncio
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline
from taskiq_flow.engine import recovery, settler
from taskiq_flow.engine.hooks import Hooks
from taskiq_flow.engine.recovery import Recovery
from taskiq_flow.engine.runtime import runtimes
from taskiq_flow.engine.sender import Sender
from taskiq_flow.model.records import Ready, Wake, WorkerRecord
from taskiq_flow.result_backends import InmemoryResultBackend
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing.store_bench import QUEUE, StoreBench, step


async def test_a_result_backend_that_hangs_keeps_no_step_from_being_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "SETTLE_SECONDS", 0.01)
    answers, all_settled = asyncio.Event(), asyncio.Event()
    settled: list[str] = []
    sent: list[Ready] = []

    async def settle(wake: Wake) -> None:
        await answers.wait()
        settled.append(wake.run_id)
        if len(settled) == 3:
            all_settled.set()

    async with StoreBench(lambda options, clock: MemoryRunStore(options, clock=clock)) as bench:
        sender = Sender(InMemoryBroker(), Hooks(InMemoryBroker()))
        sender.hand_over = sent.extend
        looks = Recovery(
            store=bench.store,
            sender=sender,
            queues=lambda: [QUEUE],
            worker=lambda: WorkerRecord("w", "n", (QUEUE,), (), 0.0),
            settle=settle,
        )
        ended = [await bench.create(step("a"), publish=True) for _ in range(3)]
        for run in ended:
            await run.run("a")
        stuck = await bench.create(step("a"))

        async with asyncio.timeout(10):
            for _ in range(4):
                bench.clock.advance(3)
                await looks.look()
        assert [entry.address.run_id for entry in sent] == [stuck.run_id] * 2
        assert settled == []

        answers.set()
        async with asyncio.timeout(10):
            await all_settled.wait()
            await looks.look()
        assert sorted(settled) == sorted(run.run_id for run in ended), "each of them once"


class HangingBackend(InmemoryResultBackend[Any]):
    """Never answers."""

    async def set_result(self, *_: Any, **__: Any) -> None:
        await asyncio.Event().wait()


async def test_a_result_backend_that_hangs_is_given_up_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settler, "ENDING_SECONDS", 0.02)
    broker = InMemoryBroker().with_result_backend(HangingBackend())

    @broker.task
    async def double(value: int) -> int:
        return 2 * value

    task = await Pipeline(broker, double).kiq(2)
    assert (await task.wait_result(timeout=10)).return_value == 4
    async with asyncio.timeout(10):
        await runtimes[broker].settler.publish(task.run_id)
    await broker.shutdown()

    assert "was not published, trying again" in caplog.text
