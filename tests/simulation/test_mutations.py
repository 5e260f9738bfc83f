"""Each piece of code that keeps a promise is taken out once: the simulation must notice."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from taskiq_flow.model import transitions
from taskiq_flow.model.state import SlotStatus
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing.simulation import parse_faults, simulate

SEEDS = 200


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


MUTATIONS: list[tuple[Callable[[], AbstractContextManager[None]], str]] = [
    (without_the_claim, "all"),
    (without_the_outbox, "all"),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("mutation", "faults"), MUTATIONS, ids=lambda x: getattr(x, "__name__", x))
def test_the_simulation_notices_what_is_missing(
    mutation: Callable[[], AbstractContextManager[None]], faults: str
) -> None:
    with mutation():
        found = next((s for s in range(SEEDS) if not simulate(s, parse_faults(faults)).ok), None)

    assert found is not None, f"{SEEDS} schedules ran as if nothing were missing"
