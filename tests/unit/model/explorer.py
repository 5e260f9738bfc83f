"""Walks through every interleaving of small runs, and says which promise a state breaks."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from taskiq_flow.events import EventType
from taskiq_flow.model import transitions
from taskiq_flow.model.limits import LimitBook, Line
from taskiq_flow.model.records import (
    Address,
    Done,
    Expanded,
    Failed,
    ItemDone,
    ItemRetry,
    Items,
    LostReason,
    NewRun,
    Outcome,
    Parked,
    Refusal,
    Retry,
    RunStatus,
    StepKind,
)
from taskiq_flow.model.state import Claim, Effects, RunState, SlotStatus

PACE = transitions.Pace(lease=10.0, kick=7.0)
AT = tuple[int, int]
Answer = TypeVar("Answer", bound=Effects | Refusal | None)
STEP_ENDS = {EventType.STEP_COMPLETED, EventType.STEP_FAILED, EventType.STEP_SKIPPED}
RUN_ENDS = {EventType.RUN_COMPLETED, EventType.RUN_FAILED, EventType.RUN_CANCELLED}
DUE_STATUSES = {SlotStatus.READY, SlotStatus.RUNNING, SlotStatus.TIMER}


class Holder(NamedTuple):
    """Somebody who was granted a slot; a silent one no longer renews, but may still finish."""

    at: AT
    claim: Claim
    silent: bool = False


@dataclass(frozen=True)
class Scenario:
    """A run to explore, and how badly the world may behave."""

    new: NewRun
    skips: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    parks: frozenset[int] = frozenset()
    lengths: tuple[int, ...] = (0, 2)  # that a step may expand into
    silences: int = 1
    retries: int = 1
    events: tuple[str, ...] = ()
    cancels: bool = False
    releases: bool = False
    depth: int = 8


def _same(line: Line) -> Line:
    made = Line()
    for who in line:
        made.add(who, line.priority_of(who))
    return made


@dataclass
class World:
    """A run with all who hold its slots, and what was seen of it so far."""

    scenario: Scenario
    run: RunState
    limits: LimitBook
    now: float = 0.0
    holders: dict[str, Holder] = field(default_factory=dict[str, Holder])
    ends: Counter[int] = field(default_factory=Counter[int])
    run_ends: int = 0
    recorded: dict[int, set[int]] = field(default_factory=dict[int, set[int]])
    serial: int = 0
    silences: int = 0

    def copy(self) -> World:
        run = self.run
        steps = {
            index: replace(
                step, retries=list(step.retries or ()), attempts=dict(step.attempts or {})
            )
            for index, step in run.steps.items()
        }
        slots = {at: replace(slot) for at, slot in run.slots.items()}
        return replace(
            self,
            run=replace(
                run,
                steps=steps,
                slots=slots,
                blocked=deque(run.blocked or ()),
                inbox=dict(run.inbox),
            ),
            limits=LimitBook(
                {key: dict(held) for key, held in self.limits.holders.items()},
                dict(self.limits.next_at),
                {key: _same(line) for key, line in self.limits.waiting.items()},
                asked_at=dict(self.limits.asked_at),
            ),
            holders=dict(self.holders),
            ends=Counter(self.ends),
            recorded={step: set(items) for step, items in self.recorded.items()},
        )

    def fingerprint(self) -> str:
        """The same for states that will behave the same: times relative, tokens by order."""
        names: dict[str | None, str] = {None: "-"}

        def name(token: str | None) -> str:
            return names.setdefault(token, f"t{len(names)}")

        def at(moment: float | None) -> str:
            return "-" if moment is None else f"{moment - self.now:.3f}"

        parts = [
            self.run.status,
            at(self.run.deadline),
            str(list(self.run.blocked or ())),
            str(self.silences),
        ]
        for index, step in self.run.steps.items():
            retries = [(at(due), item) for due, item in sorted(step.retries or ())]
            parts.append(
                f"{index}{step.status}{step.waiting_for}{step.skipped}{step.length}"
                f"{step.cursor}{step.left}{retries}{step.attempts or {}}{self.recorded.get(index)}"
            )
        for key, slot in self.run.slots.items():
            answer = slot.answer
            again = answer and (answer.ready, answer.claimed, name(answer.next_token))
            parts.append(
                f"{key}{slot.status}{at(slot.due)}{name(slot.token)}{name(slot.last_token)}"
                f"{name(slot.finish_token)}{slot.attempt}{slot.lost}{slot.kicks}{slot.items}{again}"
            )
        parts += [f"{name(token)}{held}" for token, held in self.holders.items()]
        parts += [
            f"{key}{[(who, at(until)) for who, until in held.items()]}"
            for key, held in self.limits.holders.items()
        ]
        return "|".join(parts)

    # -- what may happen

    def choices(self) -> Iterator[tuple[str, Callable[[World], None]]]:
        for at in self.run.slots:
            yield f"start {at}", lambda world, at=at: world.start(at)
        for token, holder in self.holders.items():
            for outcome in self._outcomes(holder):
                for goes_on in (False, True):
                    yield (
                        f"finish {holder.at} {outcome} {'and go on' if goes_on else ''}",
                        lambda world, token=token, outcome=outcome, goes_on=goes_on: world.finish(
                            token, outcome, goes_on=goes_on
                        ),
                    )
            if not holder.silent and self.silences < self.scenario.silences:
                yield f"silence {holder.at}", lambda world, token=token: world.silence(token)
            if self.scenario.releases:
                yield f"release {holder.at}", lambda world, token=token: world.release(token)
        for name in self.scenario.events:
            yield f"event {name}", lambda world, name=name: world.receive(name)
        for at, slot in self.run.slots.items():
            if slot.status is SlotStatus.PARKED and at[0] in self.scenario.parks:
                yield f"resume {at}", lambda world, at=at: world.resume(at)
        if self.scenario.cancels:
            yield "cancel", lambda world: world.cancel()
        if self.next_moment() is not None:
            yield "time", lambda world: world.pass_time()

    def _outcomes(self, holder: Holder) -> Iterator[Outcome]:
        index = holder.at[0]
        record = self.run.steps[index].record
        failed = Failed(b"no", record.on_failure)
        if record.kind is StepKind.MAP and not holder.claim.expand:
            done = tuple(ItemDone(number, b"=1") for number, _ in holder.claim.items)
            yield Items(done)
            number, attempt = holder.claim.items[0]
            if attempt < self.scenario.retries:
                yield Items(done[1:], retries=(ItemRetry(number, b"no", 3.0),))
            yield Items(done[1:], failed=failed)
            return
        if holder.claim.expand:
            for length in self.scenario.lengths:
                yield Expanded(length)
            return
        yield Done(b"1", skip=self.scenario.skips.get(index, ()))
        if self.run.slots[holder.at].attempt < self.scenario.retries:
            yield Retry(b"no", 3.0)
        yield failed
        if index in self.scenario.parks:
            yield Parked(None)

    def start(self, at: AT) -> None:
        token = self._token()
        answer = self._watch(
            lambda: transitions.start(self.run, at, token, self.now, PACE, self.limits, want=2),
            at,
        )
        if isinstance(answer, Refusal):
            return
        assert answer.claim is not None, "a start was neither refused nor granted"
        self.holders[token] = Holder(at, answer.claim)
        before = self.fingerprint()
        again = transitions.start(self.run, at, token, self.now, PACE, self.limits, want=2)
        assert isinstance(again, Effects)
        assert again.claim == answer.claim, "the same token got another grant"
        other = transitions.start(self.run, at, "other", self.now, PACE, self.limits)
        assert isinstance(other, Refusal), "two tokens hold one slot"
        assert self.fingerprint() == before, "a repeated start changed the run"

    def finish(self, token: str, outcome: Outcome, *, goes_on: bool) -> None:
        holder = self.holders.pop(token)
        next_token = self._token() if goes_on else None
        slot = self.run.slots[holder.at]
        allowed = slot.last_token == token and slot.status in (
            SlotStatus.RUNNING,
            SlotStatus.READY,
            SlotStatus.TIMER,
            SlotStatus.BLOCKED,
        )
        before = self.fingerprint()
        effects = self._finish(holder.at, token, outcome, next_token)
        if effects is None:
            assert self.fingerprint() == before, "a stale token changed the run"
            assert not allowed or self.run.status.is_final, "a rightful finish was refused"
            return
        assert allowed, "a stale token finished a slot"
        before = self.fingerprint()
        again = transitions.finish(
            self.run, holder.at, token, outcome, next_token, self.now, PACE, self.limits
        )
        if not effects.recorded:
            assert self.run.status.is_final, "a rightful finish was not recorded"
            assert (effects.ready, effects.claim, effects.ended) == ([], None, False)
            where = Address(self.run.run_id, *holder.at)
            assert not any(where in held for held in self.limits.holders.values())
            assert again is None, "what was given back was given back again"
            assert self.fingerprint() == before, "a repeated finish changed the run"
            return
        assert again is not None
        assert (again.ready, again.claim, again.ended, again.retry_at) == (
            effects.ready,
            effects.claim,
            effects.ended,
            effects.retry_at,
        ), "a repeated finish got another answer"
        assert self.fingerprint() == before, "a repeated finish changed the run"
        if effects.claim is not None:
            assert next_token is not None
            assert not self.run.status.is_final, "an ended run granted a slot"
            claim = effects.claim
            self.holders[next_token] = Holder(claim.at, claim)

    def _finish(
        self, at: AT, token: str, outcome: Outcome, next_token: str | None
    ) -> Effects | None:
        return self._watch(
            lambda: transitions.finish(
                self.run, at, token, outcome, next_token, self.now, PACE, self.limits
            ),
            at,
        )

    def silence(self, token: str) -> None:
        self.silences += 1
        self.holders[token] = self.holders[token]._replace(silent=True)

    def release(self, token: str) -> None:
        holder = self.holders.pop(token)
        self._watch(
            lambda: transitions.release(
                self.run, holder.at, token, 0.0, self.now, PACE, self.limits
            ),
            holder.at,
        )

    def receive(self, name: str) -> None:
        self._watch(lambda: transitions.receive(self.run, name, b"1", self.now, PACE), None)

    def resume(self, at: AT) -> None:
        self._watch(lambda: transitions.resume(self.run, at, "note", self.now, PACE), at)

    def cancel(self) -> None:
        self._watch(lambda: transitions.cancel(self.run, "because", self.now), None)

    def next_moment(self) -> float | None:
        """When something is due next: leases of those who renew are not."""
        live = {held.at for held in self.holders.values() if not held.silent}
        moments = [
            slot.due
            for at, slot in self.run.slots.items()
            if slot.due is not None
            and not (slot.status is SlotStatus.RUNNING and at in live)
            and slot.due > self.now
        ]
        if self.run.deadline is not None and self.run.deadline > self.now:
            moments.append(self.run.deadline)
        return None if self.run.status.is_final else min(moments, default=None)

    def pass_time(self) -> None:
        moment = self.next_moment()
        assert moment is not None
        self.now = moment
        for token, holder in list(self.holders.items()):
            if not holder.silent:
                self._renew(token, holder)
        for at in list(self.run.slots):
            self.wake(at)
        self._watch(lambda: transitions.pass_deadline(self.run, self.now), None)

    def _renew(self, token: str, holder: Holder) -> None:
        lost = transitions.renew(self.run, holder.at, token, self.now, PACE, self.limits)
        if lost is not None:
            assert lost is LostReason.ENDED, "a renewed lease was lost"
            self.release(token)

    def wake(self, at: AT) -> Effects | None:
        slot = self.run.slots[at]
        was_due = slot.due is not None and slot.due <= self.now
        effects = self._watch(lambda: transitions.wake(self.run, at, self.now, PACE, 0.0), at)
        if was_due and not self.run.status.is_final:
            assert slot.due is None or slot.due > self.now, "a slot stays due for ever"
        return effects

    def _token(self) -> str:
        self.serial += 1
        return f"token-{self.serial}"

    # -- what must hold

    def _watch(self, change: Callable[[], Answer], at: AT | None) -> Answer:
        """Make a change; see that its effects tell the store of everything that became due."""
        dues = {place: slot.due for place, slot in self.run.slots.items()}
        was_final = self.run.status.is_final
        answer = change()
        told = {at}
        if isinstance(answer, Effects):
            claim = answer.claim
            told |= {*answer.ready, *answer.sleeping}
            told |= {claim.at} if claim else set()
            for kind, step, *_ in answer.events:
                assert not was_final, f"{kind} after the end"
                self.run_ends += kind in RUN_ENDS
                if kind in STEP_ENDS:
                    assert step is not None
                    self.ends[step] += 1
            if answer.items and at is not None:
                recorded = self.recorded.setdefault(at[0], set())
                assert not recorded & answer.items.keys(), "an item was recorded twice"
                recorded.update(answer.items)
            assert answer.ended == (self.run.status.is_final and not was_final)
            for address in answer.freed:
                place = (address.step, address.slot)
                hurried = transitions.hurry(self.run, place, self.now, PACE)
                told |= set(hurried.ready) if hurried else set()
        if not self.run.status.is_final:
            for place, slot in self.run.slots.items():
                if slot.due is not None and slot.due != dues.get(place):
                    assert place in told, f"the store is not told when {place} is due"
        self.check()
        return answer

    def check(self) -> None:
        run = self.run
        held = [slot for slot in run.slots.values() if slot.status is SlotStatus.RUNNING]
        tokens = [slot.token for slot in held]
        assert None not in tokens
        assert len(set(tokens)) == len(tokens), "one token holds two slots"
        assert all(count == 1 for count in self.ends.values()), "a step ended twice"
        assert self.run_ends == run.status.is_final, "a run ends once"
        unended = sum(not step.status.is_final for step in run.steps.values())
        assert run.remaining == unended, "remaining is not what has not ended"
        assert run.status is not RunStatus.COMPLETED or unended == 0
        if run.status.is_final:
            return
        assert run.running == len(held), "running is not the number of held slots"
        assert run.max_parallel is None or run.running <= run.max_parallel
        for at, slot in run.slots.items():
            assert slot.status not in DUE_STATUSES or slot.due is not None, f"{at} sleeps for ever"
            if slot.status is SlotStatus.BLOCKED:
                assert (run.blocked or deque()).count(at) == 1, (
                    f"{at} is behind the limit, unknown to it"
                )
        for index, step in run.steps.items():
            if step.length is not None and not step.status.is_final and (index, 0) in run.slots:
                self._check_items(index)

    def _check_items(self, index: int) -> None:
        step = self.run.steps[index]
        length = step.length or 0
        recorded = self.recorded.get(index, set())
        in_flight = [
            number for at, slot in self.run.slots.items() if at[0] == index for number in slot.items
        ]
        known = [*recorded, *in_flight, *(number for _, number in step.retries or ())]
        known += range(step.cursor, length)
        assert sorted(known) == list(range(length)), "an item is in two places, or in none"
        assert step.left == length - len(recorded)

    def drive_to_the_end(self) -> None:
        """Lose every message and every worker; then let time pass and good workers work."""
        self.holders.clear()
        self.run.deadline = None
        for _ in range(300):
            if self.run.status.is_final:
                return
            dues = [slot.due for slot in self.run.slots.values() if slot.due is not None]
            if dues:
                self.now = max(self.now, min(dues))
            else:
                self._release_the_parked()
            for at in list(self.run.slots):
                effects = self.wake(at)
                self._work(effects.ready if effects else [])
        raise AssertionError("the run is stuck")

    def _release_the_parked(self) -> None:
        for at, slot in list(self.run.slots.items()):
            if slot.status is SlotStatus.PARKED:
                event = self.run.steps[at[0]].record.event
                if event is None:
                    self.resume(at)
                else:
                    self.receive(event)

    def _work(self, messages: list[AT]) -> None:
        todo = deque(messages)
        while todo:
            at, token = todo.popleft(), self._token()
            answer = self._watch(
                lambda at=at, token=token: transitions.start(
                    self.run, at, token, self.now, PACE, self.limits
                ),
                at,
            )
            if isinstance(answer, Refusal) or answer.claim is None:
                continue
            holder = Holder(at, answer.claim)
            index = at[0]
            outcome: Outcome = Done(b"1", skip=self.scenario.skips.get(index, ()))
            if holder.claim.expand:
                outcome = Expanded(2)
            elif holder.claim.items:
                outcome = Items(tuple(ItemDone(n, b"=1") for n, _ in holder.claim.items))
            effects = self._finish(at, token, outcome, None)
            assert effects is not None
            todo.extend(effects.ready)


def begin(scenario: Scenario) -> World:
    run, effects = transitions.create(scenario.new, 0.0, PACE)
    world = World(scenario, run, LimitBook())
    for kind, step, *_ in effects.events:
        world.run_ends += kind in RUN_ENDS
        if kind in STEP_ENDS and step is not None:
            world.ends[step] += 1
    for index in scenario.new.done:
        assert world.ends[index] == 0
    world.check()
    return world


def explore(scenario: Scenario) -> set[RunStatus]:
    """Visit every state within the scenario's depth; return how runs ended.

    Raises:
        AssertionError: A state breaks a promise; the message is the shortest way to it.
    """
    first = begin(scenario)
    endings: set[RunStatus] = {first.run.status}
    seen = {first.fingerprint()}
    driven: set[str] = set()
    border: list[tuple[World, tuple[str, ...]]] = [(first, ())]
    for _ in range(scenario.depth):
        further: list[tuple[World, tuple[str, ...]]] = []
        for world, path in border:
            for label, change in world.choices():
                here = (*path, label)
                after = world.copy()
                with _path(here):
                    change(after)
                    mark = after.fingerprint()
                    if mark in seen:
                        continue
                    seen.add(mark)
                    _see_that_it_ends(after, driven)
                endings.add(after.run.status)
                further.append((after, here))
        border = further
    return endings


def wander(scenario: Scenario, seed: int, steps: int) -> RunStatus:
    """Go one random way, deeper than every way can be gone."""
    dice = random.Random(seed)
    world = begin(scenario)
    driven: set[str] = set()
    here: tuple[str, ...] = ()
    for _ in range(steps):
        choices = list(world.choices())
        if not choices:
            break
        # By kind first: there are many ways to finish, and one way for time to pass.
        kind = dice.choice(sorted({label.split()[0] for label, _ in choices}))
        label, change = dice.choice([choice for choice in choices if choice[0].startswith(kind)])
        here = (*here, label)
        with _path(here):
            change(world)
            _see_that_it_ends(world, driven)
    return world.run.status


def _see_that_it_ends(world: World, driven: set[str]) -> None:
    future = world.copy()
    future.holders.clear()
    mark = future.fingerprint()
    if mark not in driven:
        driven.add(mark)
        future.drive_to_the_end()


@contextmanager
def _path(labels: tuple[str, ...]) -> Iterator[None]:
    try:
        yield
    except AssertionError as broken:
        raise AssertionError(f"{broken}, after:\n  " + "\n  ".join(labels)) from broken
