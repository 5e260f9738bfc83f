"""How a worker shares out the many slots of one message. Time is virtual."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextvars import Context

import pytest

from taskiq_flow.engine.spread import LOOK_SECONDS, MOST_LANES, SHARES, Pace, Spread
from taskiq_flow.model.records import Address, Ready
from taskiq_flow.testing.simulation.clock import VirtualLoop


class Message:
    """A message of so many slots, each of which takes so long; and what became of them."""

    def __init__(self, count: int, *, seconds: float) -> None:
        self.slots = deque(
            Ready(Address("run", 0, number), "queue", "", "task") for number in range(count)
        )
        self.seconds = seconds
        self.begun: list[int] = []
        self.sent_on: list[list[int]] = []
        self.going = self.most = 0

    def spread(self, room: asyncio.Semaphore | None = None, pace: Pace | None = None) -> Spread:
        return Spread(self.slots, self.work, self.send_on, room, pace or Pace())

    async def work(self, entry: Ready) -> None:
        self.begun.append(entry.address.slot)
        self.going += 1
        self.most = max(self.most, self.going)
        await asyncio.sleep(self.seconds)
        self.going -= 1

    def send_on(self, parts: Sequence[Sequence[Ready]]) -> None:
        self.sent_on += [[entry.address.slot for entry in part] for part in parts]

    @property
    def all_sent_on(self) -> list[int]:
        return [number for part in self.sent_on for number in part]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.dispose()


QUICK, MEDIUM, SLOW = LOOK_SECONDS / 1000, LOOK_SECONDS / 4, LOOK_SECONDS * 50


def test_quick_slots_are_worked_on_side_by_side_but_not_all_at_once(loop: VirtualLoop) -> None:
    message = Message(100, seconds=QUICK)

    loop.run_until_complete(message.spread().work_off())

    assert sorted(message.begun) == list(range(100))
    assert message.most == MOST_LANES
    assert message.sent_on == []


def test_slots_take_only_what_room_the_worker_has_left_and_give_it_back(loop: VirtualLoop) -> None:
    message, room = Message(50, seconds=QUICK), asyncio.Semaphore(2)

    loop.run_until_complete(message.spread(room).work_off())

    assert sorted(message.begun) == list(range(50))
    assert message.most == 3, "the message's own place and the two that were free"
    loop.run_until_complete(asyncio.wait_for(take(room, 2), 1))


def test_in_a_full_worker_they_come_one_after_another(loop: VirtualLoop) -> None:
    message = Message(20, seconds=QUICK)

    loop.run_until_complete(message.spread(asyncio.Semaphore(0)).work_off())

    assert message.begun == list(range(20))
    assert message.most == 1


def test_a_slow_slot_keeps_none_of_the_others_waiting(loop: VirtualLoop) -> None:
    message = Message(41, seconds=SLOW)

    loop.run_until_complete(message.spread().work_off())

    assert message.begun == [0], "nobody knew yet whether they are slow"
    assert len(message.sent_on) == SHARES
    assert message.all_sent_on == list(range(1, 41))


def test_of_slots_that_are_neither_quick_nor_slow_others_get_half(loop: VirtualLoop) -> None:
    message = Message(100, seconds=MEDIUM)

    loop.run_until_complete(message.spread(asyncio.Semaphore(0)).work_off())

    assert sorted(message.begun + message.all_sent_on) == list(range(100))
    first, second = message.sent_on[:2]
    assert 45 <= len(first) <= 50
    assert len(second) < len(first)


def test_a_worker_sends_on_halves_of_one_message_at_a_time(loop: VirtualLoop) -> None:
    messages, pace = [Message(60, seconds=MEDIUM) for _ in range(5)], Pace()

    async def work_off() -> None:
        full = asyncio.Semaphore(0)
        works = [message.spread(full, pace).work_off() for message in messages]
        async with asyncio.timeout(LOOK_SECONDS * 1.5):
            await asyncio.gather(*works)

    with pytest.raises(TimeoutError):
        loop.run_until_complete(work_off())

    assert sum(len(message.sent_on) for message in messages) == 1


def test_a_process_that_stood_still_does_not_take_its_slots_for_slow(loop: VirtualLoop) -> None:
    message = Message(100, seconds=LOOK_SECONDS * 0.9)
    process = loop.strand("process")
    spreading = loop.spawn(process, message.spread().work_off())
    loop.call_later(LOOK_SECONDS * 0.5, loop.freeze, process, context=Context())
    loop.call_later(LOOK_SECONDS * 1.5, loop.thaw, process, context=Context())

    loop.run_until_complete(spreading)

    assert len(message.sent_on[0]) == 50, "half of them, in one message"


def test_a_slot_that_raises_ends_the_message_and_frees_its_room(loop: VirtualLoop) -> None:
    message, room = Message(20, seconds=QUICK), asyncio.Semaphore(3)
    works = message.work

    async def work(entry: Ready) -> None:
        await works(entry)
        if entry.address.slot == 5:
            raise ValueError("broken")

    spread = message.spread(room)
    spread.work = work

    with pytest.raises(ExceptionGroup) as caught:
        loop.run_until_complete(spread.work_off())

    assert [str(error) for error in caught.value.exceptions] == ["broken"]
    loop.run_until_complete(asyncio.wait_for(take(room, 3), 1))


async def take(room: asyncio.Semaphore, places: int) -> None:
    for _ in range(places):
        await room.acquire()
