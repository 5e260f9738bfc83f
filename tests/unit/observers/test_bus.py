"""One subscription: in order, without gaps, whatever happens to the feed meanwhile."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from taskiq_flow.events import EventType
from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.model.records import EventRecord, RunStatus
from taskiq_flow.observers import Delivery, EventBus, call_hook
from tests.integration.workers.harness import eventually


def event(run_id: str, seq: int, kind: EventType = EventType.STEP_STARTED) -> EventRecord:
    return EventRecord(run_id, seq, float(seq), kind, 0, 0, 1, "")


class ForgetfulFeed:
    """A feed of which entries can get lost, while each run's own record stays whole."""

    def __init__(self) -> None:
        self.entries: list[EventRecord] = []
        self.records: dict[str, list[EventRecord]] = {}
        self.is_away = False
        self.reads = self.refused = 0

    def _answer(self) -> None:
        if self.is_away:
            self.refused += 1
            raise StoreUnavailableError("test://", "away")

    def happen(self, *events: EventRecord, kept: bool = True) -> None:
        for one in events:
            self.records.setdefault(one.run_id, []).append(one)
            if kept:
                self.entries.append(one)

    async def feed(
        self, *, after: str | None = None, limit: int = 1000, wait_seconds: float = 0.0
    ) -> tuple[list[EventRecord], str]:
        self.reads += 1
        await asyncio.sleep(0.001)
        self._answer()
        start = len(self.entries) if after is None else int(after)
        fresh = self.entries[start : start + limit] if after is not None else []
        return fresh, str(start + len(fresh))

    async def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRecord]:
        return self.records.get(run_id, [])[after : after + limit]

    async def ended_among(self, run_ids: Sequence[str]) -> dict[str, RunStatus]:
        self._answer()
        return {
            run_id: RunStatus.COMPLETED
            for run_id in run_ids
            if any(one.type.ends_run for one in self.records.get(run_id, []))
        }


@pytest.fixture
def feed() -> ForgetfulFeed:
    return ForgetfulFeed()


async def test_an_observer_hears_of_what_happens_after_the_beginning(feed: ForgetfulFeed) -> None:
    heard: list[EventRecord] = []
    bus = EventBus(feed)
    feed.happen(event("a", 1))
    bus.add(heard.append)
    await bus.begin()

    feed.happen(event("a", 2), event("b", 1))

    await eventually(lambda: len(heard) == 2)
    assert [(one.run_id, one.seq) for one in heard] == [("a", 2), ("b", 1)]
    await bus.close()


async def test_what_the_feed_has_lost_is_read_from_the_run(feed: ForgetfulFeed) -> None:
    heard: list[int] = []
    bus = EventBus(feed)
    bus.add(lambda one: heard.append(one.seq))
    await bus.begin()
    feed.happen(event("a", 1))
    feed.happen(event("a", 2), event("a", 3), kept=False)

    feed.happen(event("a", 4))

    await eventually(lambda: 4 in heard)
    assert heard == [1, 2, 3, 4]
    await bus.close()


@pytest.mark.parametrize("kept", [False, True])
async def test_an_end_while_the_store_was_away_is_heard_once(
    feed: ForgetfulFeed, kept: bool
) -> None:
    """Whether the feed still has it, or only the run's own record."""
    heard: list[int] = []
    bus = EventBus(feed)
    bus.add(lambda one: heard.append(one.seq))
    await bus.begin()
    feed.happen(event("a", 1))
    await eventually(lambda: heard == [1])

    feed.is_away = True
    await eventually(lambda: feed.refused > 0)
    feed.happen(event("a", 2), event("a", 3, EventType.RUN_COMPLETED), kept=kept)
    feed.is_away = False
    feed.happen(event("b", 4))

    await eventually(lambda: 4 in heard)
    assert heard == [1, 2, 3, 4]
    await bus.close()


async def test_an_observer_that_raises_costs_the_others_nothing(feed: ForgetfulFeed) -> None:
    heard: list[int] = []
    bus = EventBus(feed)
    bus.add(lambda one: [][one.seq])
    bus.add(lambda one: heard.append(one.seq))
    await bus.begin()

    feed.happen(event("a", 1), event("a", 2))

    await eventually(lambda: heard == [1, 2])
    await bus.close()


async def test_nobody_is_told_twice_when_a_reader_catches_up(feed: ForgetfulFeed) -> None:
    heard: list[int] = []
    bus = EventBus(feed)
    bus.add(lambda one: heard.append(one.seq))
    await bus.begin()

    for seq in range(1, 200):
        feed.happen(event("a", seq))
        if seq % 20 == 0:
            await bus.catch_up()
            assert heard == list(range(1, seq + 1))

    await bus.close()


async def test_nothing_is_read_when_nobody_listens(feed: ForgetfulFeed) -> None:
    bus = EventBus(feed)
    feed.happen(event("a", 1), event("a", 2, EventType.RUN_COMPLETED))
    found = [one.seq async for one in bus.follow("a")]
    assert found == [1, 2]

    reads = -1

    async def stands_still() -> bool:
        nonlocal reads
        before, reads = reads, feed.reads
        return before == reads

    await eventually(stands_still)


async def test_one_that_follows_a_run_goes_on_from_its_position(feed: ForgetfulFeed) -> None:
    bus = EventBus(feed)
    feed.happen(event("a", 1), event("a", 2))
    found: list[int] = []

    async def follow() -> None:
        async for one in bus.follow("a", after=1):
            found.append(one.seq)  # noqa: PERF401 - seen while it goes on

    following = asyncio.create_task(follow())
    await eventually(lambda: found == [2])
    feed.happen(event("b", 1), event("a", 3), event("a", 4, EventType.RUN_FAILED))

    await asyncio.wait_for(following, 10)
    assert found == [2, 3, 4]


async def test_a_slow_observer_loses_the_oldest_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[int] = []
    gate = asyncio.Event()

    async def hear(one: EventRecord) -> None:
        await gate.wait()
        heard.append(one.seq)

    delivery = Delivery("The slow one", hear, most=3)
    delivery.put(event("a", 1))
    await asyncio.sleep(0)

    for seq in range(2, 10):
        delivery.put(event("a", seq))
    gate.set()

    await delivery.close(timeout_seconds=5)
    assert heard == [1, 7, 8, 9]
    assert delivery.dropped == 5
    assert "The slow one is too slow: 1 event(s) dropped" in caplog.text


async def test_a_delivery_keeps_its_event_while_the_store_is_away() -> None:
    tries: list[int] = []

    async def hear(one: EventRecord) -> None:
        tries.append(one.seq)
        if len(tries) < 3:
            raise StoreUnavailableError("test://", "away")

    delivery = Delivery("It", hear)
    delivery.put(event("a", 1))
    delivery.put(event("a", 2))

    await delivery.close(timeout_seconds=5)
    assert tries == [1, 1, 1, 2]


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration()])
async def test_a_sync_hook_runs_in_a_thread_and_its_error_is_handed_on(error: Exception) -> None:
    def hook(value: Any) -> None:
        raise error

    with pytest.raises((ValueError, RuntimeError), match=r"no|StopIteration"):
        await call_hook(hook, 1)


async def test_a_hook_that_hangs_is_given_up() -> None:
    gate = threading.Event()

    with pytest.raises(TimeoutError):
        await call_hook(gate.wait, 60, timeout_seconds=0.05)

    gate.set()
