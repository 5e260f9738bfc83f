"""Two stores that must stay equal: a machine that does the same random things to both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from taskiq_flow.exceptions import BacklogFullError, DuplicatePipelineError, DuplicateTickError
from taskiq_flow.model.records import (
    Aborted,
    Address,
    Done,
    DoneSequence,
    Expanded,
    Failed,
    Finished,
    Grant,
    ItemDone,
    ItemMark,
    ItemRetry,
    Items,
    Join,
    Limit,
    OnFailure,
    Outcome,
    Parked,
    Ready,
    Retry,
    RunFilter,
    RunStatus,
    StepKind,
    WakeKind,
    bound_items_key,
)
from taskiq_flow.stores.base import Held, RunStore
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing.store_bench import (
    QUEUE,
    BenchRun,
    Draft,
    MakeStore,
    StoreBench,
    marked,
    step,
)

Result = TypeVar("Result")
QUEUES = (QUEUE, "other")
LIMITS = (
    (),
    (Limit("one", most=1),),
    (Limit("one", most=1, priority=3),),
    (Limit("two", most=2), Limit("rate", per_second=0.5, burst=2)),
)
# Parts of seconds that a float holds exactly: the stores must agree to the last digit.
DELAYS = st.sampled_from([0.0, 0.5, 1.0, 3.0, 20.0])
FAILURES = st.sampled_from(list(OnFailure))


@st.composite
def drafts(draw: st.DrawFn) -> list[Draft]:
    """A few steps of all kinds, each after some of those before it."""
    plan: list[Draft] = []
    for number in range(draw(st.integers(1, 5))):
        names = [other.name for other in plan]
        after = draw(st.lists(st.sampled_from(names), unique=True, max_size=3)) if names else []
        kinds = [StepKind.TASK] * 3 + [StepKind.MAP] * 3 + [StepKind.TIMER, StepKind.EVENT]
        kind = draw(st.sampled_from(kinds))
        facts: dict[str, Any] = {
            "kind": kind,
            "on_failure": draw(FAILURES),
            "join": draw(st.sampled_from(list(Join))),
            "queue": draw(st.sampled_from([QUEUE, QUEUE, "other"])),
            "lost_most": draw(st.sampled_from([1, 3, 8])),
            "limits": draw(st.sampled_from(LIMITS)),
        }
        if kind is StepKind.MAP:
            facts["slots"] = draw(st.integers(1, 3))
        if kind is StepKind.TIMER:
            facts["delay_seconds"] = draw(DELAYS)
        if kind is StepKind.EVENT:
            facts["event"] = draw(st.sampled_from(["paid", "go"]))
            facts["delay_seconds"] = draw(st.sampled_from([None, 5.0]))
        plan.append(step(f"s{number}", *after, **facts))
    return plan


class LockStep(RuleBasedStateMachine):
    """Does everything to a store and to the model in memory, and compares each answer.

    The store under test is asked twice where a repetition must not matter.
    """

    def __init__(self, make: MakeStore) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.bench = StoreBench(make)
        self.store: RunStore = self.do(self.bench.open())
        self.model = MemoryRunStore(self.bench.options, clock=self.bench.clock)
        self.runs: list[BenchRun] = []
        self.grants: list[Grant] = []
        self.messages: list[Ready] = []
        self.finishes: list[tuple[Address, str, Outcome, str | None]] = []
        self.tokens = 0
        self.key_is_open = False  # its latest run was deleted: stores may know an older one
        self.in_step = True

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def both(self, ask: Callable[[RunStore], Awaitable[Result]]) -> Result:
        """Ask both stores; the answers must be the same."""

        async def compare() -> Result:
            theirs, ours = await ask(self.store), await ask(self.model)
            same = _comparable(theirs) == _comparable(ours)
            assert same, f"\nthe store: {theirs}\nthe model: {ours}"
            return ours

        self.in_step = False
        answer = self.do(compare())
        self.in_step = True
        return answer

    def token(self) -> str:
        self.tokens += 1
        return f"t{self.tokens}"

    def pick_run(self, data: st.DataObject) -> BenchRun:
        return self.runs[-data.draw(st.integers(1, min(4, len(self.runs))))]

    # -- what may happen

    @rule(plan=drafts(), data=st.data())
    def create(self, plan: list[Draft], data: st.DataObject) -> None:
        items: dict[str, list[bytes]] = {}
        for draft in plan:
            if draft.facts["kind"] is StepKind.MAP and data.draw(st.booleans()):
                count = data.draw(st.integers(0, 4))
                items[draft.name] = marked(str(i).encode() for i in range(count))
        run = self.bench.draft(
            *plan,
            items=items,
            run_id=f"run-{len(self.runs):03}",
            key=data.draw(st.sampled_from([None, None, "k"])),
            tick=data.draw(st.sampled_from([None, None, None, "t1", "t2"])),
            backlog=data.draw(st.sampled_from([None, None, ("b", 2)])),
            max_parallel=data.draw(st.sampled_from([None, None, 1, 2])),
            timeout_seconds=data.draw(st.sampled_from([None, None, 30.0])),
            publish=data.draw(st.booleans()),
            parent=data.draw(st.sampled_from([None, Address("run-000", 0, 0)])),
            tags=("even",) if len(self.runs) % 2 == 0 else ("odd", "x"),
            done={0: data.draw(st.sampled_from([b"old", None]))}
            if data.draw(st.integers(0, 5)) == 0
            else {},
        )
        bound = {run.index[name]: values for name, values in items.items()}
        times = data.draw(st.integers(1, 2))

        async def ask(store: RunStore) -> object:
            for _ in range(times):
                try:
                    answer = await store.create(run.new, bound)
                except (DuplicatePipelineError, DuplicateTickError, BacklogFullError) as error:
                    return type(error), str(error)
            return answer

        answer = self.both(ask)
        self.runs.append(run)
        if self.do(self.model.find("k")) == run.run_id:
            self.key_is_open = False
        if isinstance(answer, tuple) and all(isinstance(entry, Ready) for entry in answer):
            self.messages += answer

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """A message arrives, perhaps not for the last time."""
        number = data.draw(st.integers(0, len(self.messages) - 1))
        message = self.messages[number]
        if data.draw(st.integers(0, 4)):
            del self.messages[number]
        self.start(message.address, self.token(), data.draw(st.integers(1, 3)))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def claim_anything(self, data: st.DataObject) -> None:
        run = self.pick_run(data)
        number = data.draw(st.integers(0, len(run.new.steps) - 1))
        address = Address(run.run_id, number, data.draw(st.integers(0, 2)))
        self.start(address, self.token(), data.draw(st.integers(1, 3)))

    def start(self, address: Address, token: str, want: int) -> None:
        answer = self.both(lambda store: store.start(address, token, want=want))
        if isinstance(answer, Grant):
            again = self.do(self.store.start(address, token, want=want))
            assert again == answer
            self.grants.append(answer)

    @precondition(lambda self: self.grants)
    @rule(data=st.data(), late=st.integers(0, 5))
    def finish(self, data: st.DataObject, late: int) -> None:
        number = data.draw(st.integers(max(0, len(self.grants) - 4), len(self.grants) - 1))
        grant = self.grants[number]
        if late:  # else the holder does not know, and will try again
            del self.grants[number]
        outcome = self.outcome(grant, data)
        next_token = self.token() if data.draw(st.booleans()) else None
        self.record(grant.address, grant.token, outcome, next_token)
        self.finishes.append((grant.address, grant.token, outcome, next_token))

    @precondition(lambda self: self.finishes)
    @rule(data=st.data())
    def finish_again(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, min(6, len(self.finishes))))
        self.record(*self.finishes[-number])

    def record(
        self, address: Address, token: str, outcome: Outcome, next_token: str | None
    ) -> None:
        finished = self.both(lambda store: store.finish(address, token, outcome, next_token))
        again = self.do(self.store.finish(address, token, outcome, next_token))
        # A slot that the first answer let go from behind a limit is not in the second.
        assert {*again.ready} <= {*finished.ready}
        assert _comparable(again)[1:] == _comparable(finished)[1:]
        self.messages += finished.ready
        if finished.grant is not None and finished.grant not in self.grants:
            self.grants.append(finished.grant)

    def outcome(self, grant: Grant, data: st.DataObject) -> Outcome:
        held = Held(grant.address, grant.token)
        if grant.items:
            return self.items(grant, data)
        kind = data.draw(st.sampled_from("dddddfrraps" if not grant.expand else "eeefr"))
        if kind == "e":
            count = data.draw(st.integers(0, 4))
            stored = self.put_items(held, bound_items_key(grant.address.step), count)
            return Expanded(count) if stored else Retry(b"lost", 1.0)
        if kind == "s":
            count = data.draw(st.integers(0, 4))
            stored = self.put_items(held, grant.address.step, count)
            return DoneSequence(count) if stored else Retry(b"lost", 1.0)
        if kind == "f":
            return Failed(b"\x00error", data.draw(FAILURES))
        if kind == "r":
            return Retry(b"again", data.draw(DELAYS))
        if kind == "a":
            return Aborted("because")
        if kind == "p":
            return Parked(data.draw(st.sampled_from([None, 5.0])))
        run = next(run for run in self.runs if run.run_id == grant.address.run_id)
        successors = run.new.steps[grant.address.step].successors
        skip = [number for number in successors if data.draw(st.integers(0, 3)) == 0]
        return Done(f"value of {grant.token}".encode(), tuple(skip))

    def items(self, grant: Grant, data: st.DataObject) -> Items:
        done: list[ItemDone] = []
        retries: list[ItemRetry] = []
        errors = 0
        for item in grant.items:
            fate = data.draw(st.sampled_from("ddddd-!r_"))
            if fate == "r":
                retries.append(ItemRetry(item.number, b"again", data.draw(DELAYS)))
            elif fate != "_":
                mark = {"-": ItemMark.DROPPED, "!": ItemMark.FAILED}.get(fate, ItemMark.VALUE)
                done.append(ItemDone(item.number, mark + item.value))
                errors += fate == "!"
        fails = data.draw(st.integers(0, 8)) == 0
        failed = Failed(b"item", data.draw(FAILURES)) if fails else None
        want = data.draw(st.integers(1, 3))
        return Items(tuple(done), tuple(retries), failed, errors, want)

    def put_items(self, held: Held, key: int, count: int) -> bool:
        values = marked(f"{held.token}.{i}".encode() for i in range(count))
        return self.both(lambda store: store.put_items(held, key, 0, values))

    @precondition(lambda self: self.grants)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        alive = [grant for grant in self.grants if data.draw(st.integers(0, 3))]
        held = [Held(grant.address, grant.token) for grant in alive]
        lost = self.both(lambda store: store.renew(held))
        if data.draw(st.booleans()):
            self.grants = [grant for grant in self.grants if grant.token not in lost]

    @precondition(lambda self: self.grants)
    @rule(data=st.data(), delay=DELAYS)
    def release(self, data: st.DataObject, delay: float) -> None:
        grant = self.grants.pop(data.draw(st.integers(0, len(self.grants) - 1)))
        self.messages += self.both(
            lambda store: store.release(grant.address, grant.token, delay_seconds=delay)
        )

    @rule(seconds=st.sampled_from([0.25, 1.0, 2.0, 3.75]), rounds=st.integers(1, 5))
    def time_passes(self, seconds: float, rounds: int) -> None:
        for _ in range(rounds):
            self.bench.clock.advance(seconds)
            self.ask_what_is_due()

    @rule(seconds=st.sampled_from([5.0, 9.0, 40.0]))
    def the_store_is_away(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)
        self.ask_what_is_due()

    def ask_what_is_due(self) -> None:
        wakes = self.both(lambda store: store.due(QUEUES, limit=1000))
        self.messages += [wake.ready for wake in wakes if wake.ready is not None]

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), dice=st.integers(0, 2))
    def cancel(self, data: st.DataObject, dice: int) -> None:
        if dice == 0:
            run_id = self.pick_run(data).run_id
            self.both(lambda store: store.cancel(run_id, "stop"))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), name=st.sampled_from(["paid", "go"]))
    def send_event(self, data: st.DataObject, name: str) -> None:
        run_id = self.pick_run(data).run_id
        payload = f"{name} at {self.bench.clock()}".encode()
        self.messages += self.both(lambda store: store.send_event(run_id, name, payload)) or ()

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        run = self.pick_run(data)
        number = data.draw(st.integers(0, len(run.new.steps) - 1))
        at = Address(run.run_id, number, 0)
        self.messages += self.both(lambda store: store.resume(at, "note"))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), kind=st.sampled_from([WakeKind.PUBLISH, WakeKind.NOTIFY]))
    def settle(self, data: st.DataObject, kind: WakeKind) -> None:
        run_id = self.pick_run(data).run_id
        self.both(lambda store: store.settle(run_id, kind))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def leave_notes(self, data: st.DataObject) -> None:
        run_id = self.pick_run(data).run_id
        self.both(lambda store: store.note_progress(run_id, 0, b"50%"))
        self.both(lambda store: store.append_log(run_id, [b"line"]))

    @precondition(lambda self: len(self.runs) > 3)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        run_id = self.pick_run(data).run_id
        named = self.do(self.model.find("k"))
        if self.both(lambda store: store.delete(run_id)) and named == run_id:
            self.key_is_open = True

    # -- what must be equal

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        self.compare_run(self.pick_run(data))
        self.both(lambda store: store.ended_among([run.run_id for run in self.runs]))

    def compare_run(self, run: BenchRun) -> None:
        run_id, keys = run.run_id, [-1, *range(len(run.new.steps))]
        self.both(lambda store: store.get(run_id))
        self.both(lambda store: store.values(run_id, keys))
        self.both(lambda store: store.events(run_id))
        self.both(lambda store: store.log(run_id))
        for number in range(len(run.new.steps)):
            self.both(lambda store, key=number: store.items(run_id, key, 0, 5))

    def compare_listings(self) -> None:
        wanted = [RunFilter(), RunFilter(tag="odd"), *(RunFilter(status=s) for s in RunStatus)]
        for which in wanted:

            async def ids(store: RunStore, which: RunFilter = which) -> list[str]:
                page = await store.list_runs(which, limit=100)
                return [found.run_id for found in page.runs]

            self.both(ids)
        if not self.key_is_open:
            self.both(lambda store: store.find("k"))

    def teardown(self) -> None:
        try:
            if self.in_step:
                for run in self.runs:
                    self.compare_run(run)
                self.compare_listings()
        finally:
            self.do(self.bench.aclose())
            self.runner.close()


def _comparable(answer: Any) -> Any:
    """An answer without the order that the interface leaves open."""
    if isinstance(answer, Finished):
        wakes = sorted(answer.wakes, key=repr)
        rest = (answer.recorded, answer.grant, answer.ended, answer.retry_at)
        return sorted(answer.ready), rest, wakes
    if type(answer) is tuple:
        return sorted(answer, key=repr)
    return answer
