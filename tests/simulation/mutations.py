"""The engine with one piece taken out at a time: each a patch of the real function."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from unittest.mock import patch

from taskiq_flow.engine import recovery
from taskiq_flow.engine.dispatch import Dispatcher
from taskiq_flow.engine.invoke import Work
from taskiq_flow.engine.lease import Lease, LeaseKeeper
from taskiq_flow.engine.outage import Outage
from taskiq_flow.engine.recovery import Recovery
from taskiq_flow.engine.returning import Returns
from taskiq_flow.engine.work import StepRunner
from taskiq_flow.model import transitions
from taskiq_flow.model.limits import LimitBook
from taskiq_flow.model.records import OnFailure, Refusal, RefusalReason
from taskiq_flow.model.state import SlotStatus
from taskiq_flow.model.transitions import creation, finishing, leases, outcomes, steps, waking
from taskiq_flow.stores import memory
from taskiq_flow.testing.simulation import Rates, Setting
from taskiq_flow.testing.simulation.process import Process

Mutated = AbstractContextManager[Any]


@contextmanager
def _in_the_rule(name: str, instead: Any) -> Iterator[None]:
    """Replace a function of the rule wherever it is called."""
    callers = (creation, finishing, leases, outcomes, steps, waking)
    with ExitStack() as patches:
        for module in callers:
            if hasattr(module, name):
                patches.enter_context(patch.object(module, name, instead))
        yield


# --- the fence, and what is answered twice ----------------------------------------------------


@contextmanager
def the_fence_in_finish() -> Iterator[None]:
    """Whoever finishes is taken for the holder of the newest token."""
    finish = transitions.finish

    def unfenced(run: Any, at: Any, token: str, *rest: Any) -> Any:
        slot = run.slots.get(at)
        known = slot and slot.finish_token != token and (slot.token or slot.last_token)
        return finish(run, at, known or token, *rest)

    with patch.object(transitions, "finish", unfenced):
        yield


@contextmanager
def the_claim_check_in_start() -> Iterator[None]:
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
def the_answer_to_a_repeated_start() -> Iterator[None]:
    """A start whose reply was lost is refused when it comes again."""
    start = transitions.start

    def forgetful(run: Any, at: Any, token: str, *rest: Any) -> Any:
        slot = run.slots.get(at)
        if slot and slot.status is SlotStatus.RUNNING and not run.status.is_final:
            return Refusal(RefusalReason.RUNNING)
        return start(run, at, token, *rest)

    with patch.object(transitions, "start", forgetful):
        yield


@contextmanager
def the_answer_to_a_repeated_finish() -> Iterator[None]:
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
def the_late_finish_that_counts() -> Iterator[None]:
    """Work that is done after its lease ran out is thrown away, though nobody began anew."""
    finish = transitions.finish

    def strict(run: Any, at: Any, *rest: Any) -> Any:
        slot = run.slots.get(at)
        if slot is not None and slot.status is SlotStatus.READY:
            slot.last_token = None
        return finish(run, at, *rest)

    with patch.object(transitions, "finish", strict):
        yield


@contextmanager
def the_randomness_of_tokens() -> Iterator[None]:
    """Tokens are counted by the store, which can forget how far it was."""
    make_repeatable = Process._make_repeatable

    def counted(self: Process, runtime: Any) -> None:
        make_repeatable(self, runtime)

        def count() -> str:
            given = self.world.wire.store._data.ticks  # a set that a failover rolls back
            given.add(f"{len(given)}")
            return f"token-{len(given)}"

        runtime.dispatcher.new_token = count

    with patch.object(Process, "_make_repeatable", counted):
        yield


@contextmanager
def the_end_of_what_was_recorded() -> Iterator[None]:
    """The dispatcher takes a refused outcome for a recorded one."""
    finish = Dispatcher._finish

    async def trusting(self: Dispatcher, *arguments: Any) -> Any:
        return (await finish(self, *arguments))._replace(recorded=True)

    with patch.object(Dispatcher, "_finish", trusting):
        yield


# --- leases -----------------------------------------------------------------------------------


@contextmanager
def the_hold_after_an_outage() -> Iterator[None]:
    """Leases expire although nobody could renew them."""
    wake = transitions.wake

    def at_once(run: Any, at: Any, now: float, pace: Any, _hold_until: float) -> Any:
        return wake(run, at, now, pace, 0.0)

    with patch.object(transitions, "wake", at_once):
        yield


def the_release_of_a_dying_coroutine() -> Mutated:
    """What a coroutine held when it died is found when the lease has run out."""

    async def nothing(*_: Any) -> None:
        """Give nothing back."""

    return patch.object(Returns, "release", nothing)


def the_end_of_a_lease_with_its_coroutine() -> Mutated:
    """A lease is renewed although the coroutine that owned it has died."""
    return patch.object(LeaseKeeper, "drop", lambda *_: None)


@contextmanager
def the_thread_of_the_lease_keeper() -> Iterator[None]:
    """Leases are renewed by the event loop that the steps block."""
    make_repeatable = Process._make_repeatable

    def on_the_main_loop(self: Process, runtime: Any) -> None:
        self.keeper = self.main
        make_repeatable(self, runtime)

    with patch.object(Process, "_make_repeatable", on_the_main_loop):
        yield


def the_renewal_before_the_body() -> Mutated:
    """A grant is run however old it is."""

    async def trusting(*_: Any) -> None:
        """Make sure of nothing."""

    return patch.object(StepRunner, "confirm", trusting)


def the_word_to_code_whose_lease_is_lost() -> Mutated:
    """A cancelled run's code goes on to its end."""
    return patch.object(Lease, "stop", lambda *_: None)


def the_wait_for_a_thread_that_timed_out() -> Mutated:
    """The next try begins beside the thread of the one before."""

    async def at_once(*_: Any) -> None:
        """Wait for nothing."""

    return patch.object(Work, "settled", at_once)


# --- what stands still ------------------------------------------------------------------------


@contextmanager
def the_outbox() -> Iterator[None]:
    """What is ready is only in the message that says so."""
    queue = memory.MemoryRunStore._queue

    def unqueued(self: Any, run: Any, at: Any, due: float) -> None:
        slot = run.state.slots.get(at)
        if slot is None or slot.status is not SlotStatus.READY:
            queue(self, run, at, due)

    with patch.object(memory.MemoryRunStore, "_queue", unqueued):
        yield


def the_search_for_what_is_due() -> Mutated:
    """Nobody looks for what stands still."""

    async def nothing(*_: Any) -> int:
        return 0

    return patch.object(Recovery, "look", nothing)


@contextmanager
def the_patience_with_a_store_that_is_away() -> Iterator[None]:
    """The search for what is due ends with the first error."""

    class Impatience(Outage):
        def begin(self, error: Exception) -> None:
            raise asyncio.CancelledError from error

    with patch.object(recovery, "Outage", Impatience):
        yield


def the_repetition_of_publishing() -> Mutated:
    """A result that could not be published is not published."""
    return patch.object(memory, "PUBLISH_AGAIN_SECONDS", 1e9)


def the_deadline() -> Mutated:
    """A run goes on for as long as it takes."""
    return patch.object(transitions, "pass_deadline", lambda *_: None)


# --- limits, counters, joins ------------------------------------------------------------------


def the_taking_of_limits() -> Mutated:
    """Nobody counts who holds a limit."""
    return patch.object(LimitBook, "take", lambda *_: None)


def the_room_for_who_is_blocked() -> Mutated:
    """Slots behind the limit of a run wait for ever."""
    return _in_the_rule("unblock", lambda *_: None)


@contextmanager
def the_count_of_what_runs() -> Iterator[None]:
    """A lost lease still counts as running."""
    lose = waking._lose

    def uncounted(run: Any, *rest: Any) -> None:
        lose(run, *rest)
        run.running += 1

    with patch.object(waking, "_lose", uncounted):
        yield


@contextmanager
def the_items_in_flight() -> Iterator[None]:
    """Who takes a lost slot does not hear which items were being worked on."""
    lose = waking._lose

    def forgetful(run: Any, at: Any, slot: Any, *rest: Any) -> None:
        slot.items = []
        lose(run, at, slot, *rest)

    with patch.object(waking, "_lose", forgetful):
        yield


def the_skipping_of_what_follows_a_skipped_step() -> Mutated:
    """A step runs whatever became of what it needs."""
    return _in_the_rule("verdict_on", lambda _: None)


@contextmanager
def the_errors_that_pass() -> Iterator[None]:
    """Every failure ends its run."""
    fail = steps.fail_step

    def strict(run: Any, index: int, failed: Any, *rest: Any) -> None:
        fail(run, index, replace(failed, then=OnFailure.STOP), *rest)

    with _in_the_rule("fail_step", strict):
        yield


def the_rest_between_two_looks() -> Mutated:
    """Workers ask what is due as fast as they can, so the schedule never comes to its end."""

    async def nothing(*_: Any) -> None:
        """Do not rest."""

    return patch.object(Recovery, "_rest", nothing)


class Mutation(NamedTuple):
    """What is taken out, and the faults and setting in which that is soon noticed."""

    without: Callable[[], Mutated]
    faults: str
    setting: Setting = Setting()


RESTLESS = Setting(rates=Rates(pause_every=2.0, per_call=0.2))
CROWDED = Setting(runs=12)

MUTATIONS = (
    # What the promises stand on.
    Mutation(the_fence_in_finish, "pause,partition", RESTLESS),
    Mutation(the_claim_check_in_start, "duplicate"),
    Mutation(the_outbox, "drop"),
    Mutation(the_hold_after_an_outage, "outage"),
    Mutation(the_release_of_a_dying_coroutine, "callback"),
    Mutation(the_end_of_a_lease_with_its_coroutine, "callback"),
    Mutation(the_answer_to_a_repeated_start, "lost-reply"),
    Mutation(the_answer_to_a_repeated_finish, "lost-reply"),
    Mutation(the_randomness_of_tokens, "failover"),
    Mutation(the_renewal_before_the_body, "pause,slow", RESTLESS),
    # Leases.
    Mutation(the_late_finish_that_counts, "pause", RESTLESS),
    Mutation(the_end_of_what_was_recorded, "pause,partition"),
    Mutation(the_thread_of_the_lease_keeper, "block"),
    Mutation(the_word_to_code_whose_lease_is_lost, "none", CROWDED),
    Mutation(the_wait_for_a_thread_that_timed_out, "none", CROWDED),
    # What stands still.
    Mutation(the_search_for_what_is_due, "drop"),
    Mutation(the_patience_with_a_store_that_is_away, "outage,drop"),
    Mutation(the_repetition_of_publishing, "backend"),
    Mutation(the_deadline, "none", CROWDED),
    Mutation(the_rest_between_two_looks, "none", Setting(most_callbacks=20_000)),
    # Limits, counters, joins.
    Mutation(the_taking_of_limits, "none"),
    Mutation(the_room_for_who_is_blocked, "none"),
    Mutation(the_count_of_what_runs, "crash"),
    Mutation(the_items_in_flight, "crash"),
    Mutation(the_skipping_of_what_follows_a_skipped_step, "none", CROWDED),
    Mutation(the_errors_that_pass, "none"),
)
