"""What steps did is taken back when their run does not complete, the last one first."""

import asyncio
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineError, Task
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import BadArgumentsError, EmptyPipelineError
from taskiq_flow.model.records import RunFilter, RunSnapshot


async def taken_back(broker: InMemoryBroker, run_id: str) -> RunSnapshot:
    """The run that takes another one back, when it has ended."""
    store = RunClient.of(broker).store
    which = RunFilter(tag=f"compensates:{run_id}")
    async with asyncio.timeout(10):
        while True:
            found = (await store.list_runs(which)).runs
            if found and found[0].status.is_final:
                return found[0]
            await asyncio.sleep(0.01)


class Trip:
    """Bookings that are made and taken back."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self.undone: list[Any] = []

        @broker.task
        def flight(name: str) -> str:
            return f"flight of {name}"

        @broker.task
        def hotel(flight: str) -> str:
            return f"hotel after {flight}"

        @broker.task
        def pay(hotel: str) -> str:
            raise ValueError("no money")

        @broker.task
        def cancel_flight(booking: str) -> None:
            self.undone.append(booking)

        @broker.task
        def cancel_hotel(booking: str, why: dict[str, Any]) -> None:
            self.undone.append((booking, why["failed_step"], why["error"], why["status"]))

        self.flight, self.hotel, self.pay = flight, hotel, pay
        self.cancel_flight, self.cancel_hotel = cancel_flight, cancel_hotel


async def test_completed_steps_are_taken_back_in_reverse_order(broker: InMemoryBroker) -> None:
    trip = Trip(broker)
    pipeline = (
        Pipeline(broker, trip.flight)
        .on_failure(trip.cancel_flight)
        .call_next(trip.hotel)
        .on_failure(trip.cancel_hotel)
        .call_next(trip.pay)
        .on_failure(trip.cancel_flight)
    )

    task = await pipeline.kiq("Ada")
    with pytest.raises(PipelineError):
        await task.wait_result(timeout=10)
    undo = await taken_back(broker, task.run_id)

    assert str(undo.status) == "COMPLETED"
    assert trip.undone == [
        ("hotel after flight of Ada", "pay", "ValueError: no money", "FAILED"),
        "flight of Ada",
    ]


async def test_a_run_that_completes_takes_nothing_back(broker: InMemoryBroker) -> None:
    trip = Trip(broker)
    task = await Pipeline(broker, trip.flight).on_failure(trip.cancel_flight).kiq("Ada")
    await task.wait_result(timeout=10)

    store = RunClient.of(broker).store
    assert (await store.list_runs(RunFilter(kind="compensation"))).runs == ()
    assert trip.undone == []


async def test_a_cancelled_run_is_taken_back_too(broker: InMemoryBroker) -> None:
    trip = Trip(broker)
    pipeline = Pipeline(broker, trip.flight).on_failure(trip.cancel_flight).wait_for("never")
    task = await pipeline.kiq("Ada")
    async for event in task.events():
        if event.type == "step_parked":
            break

    await task.cancel()
    await taken_back(broker, task.run_id)

    assert trip.undone == ["flight of Ada"]


async def test_one_that_fails_does_not_keep_the_others_from_running(
    broker: InMemoryBroker,
) -> None:
    trip = Trip(broker)

    @broker.task
    def breaks(booking: str) -> None:
        raise OSError("the hotel does not answer")

    pipeline = (
        Pipeline(broker, trip.flight)
        .on_failure(trip.cancel_flight)
        .call_next(trip.hotel)
        .on_failure(breaks)
        .call_next(trip.pay)
    )
    task = await pipeline.kiq("Ada")
    undo = await taken_back(broker, task.run_id)

    assert trip.undone == ["flight of Ada"]
    assert str(undo.status) == "FAILED"
    assert (await Task(undo.run_id, broker).get_status()).failed_step == "hotel.breaks"


async def test_a_list_is_taken_back_whole_and_a_group_each_by_itself(
    broker: InMemoryBroker,
) -> None:
    undone: list[Any] = []

    @broker.task
    def double(value: int) -> int:
        return value * 2

    @broker.task
    def total(values: list[int]) -> int:
        return sum(values)

    @broker.task
    def count(values: list[int]) -> int:
        return len(values)

    @broker.task
    def fails(values: list[int]) -> None:
        raise ValueError(values)

    @broker.task
    def undo(result: Any, note: str = "", *, failure: dict[str, Any]) -> None:
        undone.append((result, note, failure["failed_step"]))

    pipeline = Pipeline(broker).map(double).on_failure(undo, note="map")
    pipeline.group([total, count]).on_failure(undo).call_next(fails)
    task = await pipeline.kiq([1, 2, 3])
    await taken_back(broker, task.run_id)

    assert sorted(undone[:2], key=str) == [(12, "", "fails"), (3, "", "fails")]
    assert undone[2] == ([2, 4, 6], "map", "fails")


def test_what_cannot_take_a_step_back_is_refused(broker: InMemoryBroker) -> None:
    trip = Trip(broker)

    @broker.task
    def three(one: str, two: str, three: str) -> None:
        """Need more than there is."""

    with pytest.raises(EmptyPipelineError, match="on_failure"):
        Pipeline(broker).on_failure(trip.cancel_flight)
    with pytest.raises(BadArgumentsError, match="'three' received no value"):
        Pipeline(broker, trip.flight).on_failure(three).to_view()


async def test_what_a_child_did_is_taken_back_although_its_parent_fails_with_it() -> None:
    broker = InMemoryBroker()
    parent_has_ended = asyncio.Event()
    undone: list[str] = []

    @broker.task
    async def book(name: str) -> str:
        return f"room of {name}"

    @broker.task
    async def cancel_booking(booking: str) -> None:
        await asyncio.wait_for(parent_has_ended.wait(), 10)
        undone.append(booking)

    @broker.task
    async def pay(booking: str) -> str:
        raise ValueError("no money")

    child = Pipeline(broker, book).on_failure(cancel_booking).call_next(pay)
    task = await Pipeline(broker).call_next(child).kiq("Ada")
    with pytest.raises(PipelineError) as caught:
        await task.wait_result(timeout=10)
    store = RunClient.of(broker).store
    # The end of the parent is settled, which cancels what still goes on of its children.
    await RunClient.of(broker).runtime.settler.publish(task.run_id)
    parent_has_ended.set()
    [inner] = (await store.list_runs(RunFilter(tag=f"parent:{task.run_id}"))).runs
    undo = await taken_back(broker, inner.run_id)

    assert "no money" in str(caught.value)
    assert (str(undo.status), undone) == ("COMPLETED", ["room of Ada"])
    await broker.shutdown()
