"""How a worker shares out the many slots of one message."""

import asyncio
from collections import deque
from collections.abc import Sequence

import pytest

from taskiq_flow.engine.spread import LOOK_SECONDS, MOST_LANES, SHARES, Pace, Spread
from taskiq_flow.model.records import Address, Ready


def slots(count: int) -> deque[Ready]:
    return deque(Ready(Address("run", 0, number), "queue", "", "task") for number in range(count))


class Work:
    """Sees slots through, each when it is told to, and remembers how many there were at once."""

    def __init__(self, *, quick: bool) -> None:
        self.open = asyncio.Event()
        if quick:
            self.open.set()
        self.begun: list[int] = []
        self.going = self.most = 0
        self.sent_on: list[list[int]] = []
        self.sent = asyncio.Event()

    async def __call__(self, entry: Ready) -> None:
        self.begun.append(entry.address.slot)
        self.going += 1
        self.most = max(self.most, self.going)
        await asyncio.wait_for(self.open.wait(), 10)
        await asyncio.sleep(0)
        self.going -= 1

    def send_on(self, parts: Sequence[Sequence[Ready]]) -> None:
        self.sent_on += [[entry.address.slot for entry in part] for part in parts]
        self.sent.set()


async def test_quick_slots_are_worked_on_side_by_side_but_not_all_at_once() -> None:
    work = Work(quick=True)

    await Spread(slots(100), work, work.send_on, None, Pace()).work_off()

    assert sorted(work.begun) == list(range(100))
    assert work.most == MOST_LANES
    assert work.sent_on == []


async def test_slots_take_only_what_room_the_worker_has_left_and_give_it_back() -> None:
    work = Work(quick=True)
    room = asyncio.Semaphore(2)

    await Spread(slots(50), work, work.send_on, room, Pace()).work_off()

    assert sorted(work.begun) == list(range(50))
    assert work.most == 3, "the message's own place and the two that were free"
    await asyncio.wait_for(asyncio.gather(room.acquire(), room.acquire()), 1)


async def test_a_full_worker_works_them_off_one_after_another() -> None:
    work = Work(quick=True)

    await Spread(slots(20), work, work.send_on, asyncio.Semaphore(0), Pace()).work_off()

    assert work.begun == list(range(20))
    assert work.most == 1


async def test_a_slow_slot_keeps_none_of_the_others_waiting() -> None:
    work = Work(quick=False)

    spreading = asyncio.create_task(Spread(slots(41), work, work.send_on, None, Pace()).work_off())
    await asyncio.wait_for(work.sent.wait(), 10)

    assert work.begun == [0], "nobody knew yet whether they are slow"
    assert len(work.sent_on) == SHARES
    assert sorted(number for part in work.sent_on for number in part) == list(range(1, 41))
    work.open.set()
    await spreading
    assert work.begun == [0]


async def test_of_slots_that_are_neither_quick_nor_slow_others_get_half() -> None:
    begun: list[int] = []
    sent_on: list[int] = []

    async def work(entry: Ready) -> None:
        begun.append(entry.address.slot)
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(LOOK_SECONDS / 5, done.set)
        await done.wait()

    def send_on(parts: Sequence[Sequence[Ready]]) -> None:
        assert len(parts) == 1
        sent_on.extend(entry.address.slot for entry in parts[0])

    spread = Spread(slots(60), work, send_on, None, Pace(), most_lanes=1)
    await spread.work_off()

    assert sorted(begun + sent_on) == list(range(60))
    assert len(begun) > 3
    assert sent_on


async def test_a_slot_that_raises_ends_the_message_and_frees_its_room() -> None:
    room = asyncio.Semaphore(3)

    async def work(entry: Ready) -> None:
        await asyncio.sleep(0)
        if entry.address.slot == 5:
            raise ValueError("broken")

    with pytest.raises(ExceptionGroup) as caught:
        await Spread(slots(20), work, lambda _: None, room, Pace()).work_off()

    assert caught.group_contains(ValueError, match="broken")
    await asyncio.wait_for(asyncio.gather(*[room.acquire() for _ in range(3)]), 1)
