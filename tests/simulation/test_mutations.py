"""Each piece of code that keeps a promise is taken out once: the simulation must notice."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from taskiq_flow.engine.lease import LeaseKeeper
from taskiq_flow.model import transitions
from taskiq_flow.model.state import SlotStatus
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing.simulation import parse_faults, simulate

SEEDS = 200


@contextmanager
def without_the_fence() -> Iterator[None]:
    """Whoever finishes is taken for the holder of the newest token."""
    finish = transitions.finish

    def unfenced(run: Any, at: Any, token: str, *rest: Any) -> Any:
        slot = run.slots.get(at)
        known = slot and slot.finish_token != token and (slot.token or slot.last_token)
        return finish(run, at, known or token, *rest)

    with patch.object(transitions, "finish", unfenced):
        yield


@contextmanager
def without_the_claim() -> Iterator[None]:
    """A slot is granted although somebody holds it."""
    start = transitions.start

    def unclaimed(run: Any, at: Any, token: str, *rest: Any) -> Any:
        slot = run.slots.get(at)
        if slot and slot.status is SlotStatus.RUNNING and slot.token != token:
            slot.status = SlotStatus.READY
            run.running -= 1
        return start(run, at, token, *rest)

    with patch.object(transitions, "start", unclaimed):
        yield


@contextmanager
def without_the_outbox() -> Iterator[None]:
    """What is ready is only in the message that says so."""
    queue = MemoryRunStore._queue

    def unqueued(self: MemoryRunStore, run: Any, at: Any, due: float) -> None:
        slot = run.state.slots.get(at)
        if slot is None or slot.status is not SlotStatus.READY:
            queue(self, run, at, due)

    with patch.object(MemoryRunStore, "_queue", unqueued):
        yield


@contextmanager
def without_the_hold_after_an_outage() -> Iterator[None]:
    """Leases expire although nobody could renew them."""
    due = MemoryRunStore.due

    async def at_once(self: MemoryRunStore, *arguments: Any, **options: Any) -> Any:
        self._data.last_due = self._clock()
        return await due(self, *arguments, **options)

    with patch.object(MemoryRunStore, "due", at_once):
        yield


@contextmanager
def without_the_replayed_answer() -> Iterator[None]:
    """A finish whose reply was lost is not recognised when it comes again."""
    finish = transitions.finish

    def forgetful(run: Any, at: Any, *rest: Any) -> Any:
        slot = run.slots.get(at)
        if slot is not None:
            slot.finish_token = slot.answer = None
        return finish(run, at, *rest)

    with patch.object(transitions, "finish", forgetful):
        yield


@contextmanager
def leases_outlive_their_coroutine() -> Iterator[None]:
    """A lease is renewed although the coroutine that owned it has died."""
    with patch.object(LeaseKeeper, "drop", lambda *_: None):
        yield


MUTATIONS: list[tuple[Callable[[], AbstractContextManager[None]], str]] = [
    (without_the_fence, "all"),
    (without_the_claim, "all"),
    (without_the_outbox, "all"),
    (without_the_hold_after_an_outage, "outage"),
    (without_the_replayed_answer, "lost-reply"),
    (leases_outlive_their_coroutine, "callback"),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("mutation", "faults"), MUTATIONS, ids=lambda x: getattr(x, "__name__", x))
def test_the_simulation_notices_what_is_missing(
    mutation: Callable[[], AbstractContextManager[None]], faults: str
) -> None:
    with mutation():
        found = next((s for s in range(SEEDS) if not simulate(s, parse_faults(faults)).ok), None)

    assert found is not None, f"{SEEDS} schedules ran as if nothing were missing"
