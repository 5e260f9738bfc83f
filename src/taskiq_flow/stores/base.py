"""The interface of a run store: small atomic operations on runs, and reads that load no more."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from taskiq_flow.model.records import (
    Address,
    EventRecord,
    Finished,
    Grant,
    LostReason,
    NewRun,
    Outcome,
    Ready,
    Refusal,
    RunFilter,
    RunSnapshot,
    RunStatus,
    StepTotal,
    Value,
    Wake,
    WakeKind,
    WorkerRecord,
)
from taskiq_flow.model.state import OpenSlots
from taskiq_flow.model.transitions import Pace, first_slot

FORMAT_VERSION = "1"
"""Written into every store; another version is refused with the command to run."""

TICK_SECONDS = 7 * 24 * 3600.0
"""How long it is known that a tick has fired, at the least; if runs are kept longer, as long."""

CHUNK = 1000
"""Items that travel in one call: bounds the time that a server is busy with one of them."""

SUMMED_STEPS = 5000
"""Steps of ended runs that `RunStore.step_totals` reads at the most."""

HOLDERS_NAMED = 10
"""So many of the holders of a limit `RunStore.open_slots` names."""

EndListener: TypeAlias = Callable[[str, RunStatus], None]


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What all processes on one store should agree on; times in seconds.

    ``lease_seconds`` is how long a silent worker is trusted. ``kick_seconds`` is the base after
    which a message counts as lost. Ended runs are kept ``retention_seconds`` (stored), or the
    newest ``retained_runs`` of them (memory).
    """

    namespace: str = "default"
    lease_seconds: float = 10.0
    kick_seconds: float = 10.0
    retention_seconds: float = 7 * 24 * 3600.0
    retained_runs: int = 1000

    @property
    def pace(self) -> Pace:
        return Pace(lease=self.lease_seconds, kick=self.kick_seconds)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, newest first; ``cursor`` asks for the next one, None at the end.

    A page that has looked at thousands of runs which do not fit comes short: it may hold fewer
    than were asked for, even none, and a cursor all the same.
    """

    runs: tuple[RunSnapshot, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, with the values that were asked for; None while it goes on."""

    snapshot: RunSnapshot
    values: Mapping[int, Value]


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that its holder wants to keep."""

    address: Address
    token: str


class RunStore(ABC):
    """Where runs live. Every operation is atomic, and safe to repeat with the same token.

    A store that cannot be reached raises `StoreUnavailableError`; nothing was changed then, or
    the change is made and a repetition gets the same answer.
    """

    url: str
    options: StoreOptions
    shared: bool
    """Whether other processes can see the same runs."""

    never_waits: bool = False
    """Whether its coroutines run through without an event loop, and in any thread."""

    forgets: bool = True
    """Whether ended runs go by themselves when their time has come; else workers `purge` them."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        self.url, self.options = url, options

    @abstractmethod
    async def open(self) -> None:
        """Connect and check the format; may be called again.

        Raises:
            StoreUnavailableError: It does not answer.
            StoreFormatError: Another version wrote it.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give up connections; runs stay."""

    def leave(self) -> None:  # noqa: B027 - most have nothing that outlives an event loop
        """Give up what was opened in an event loop that is closed; called in another one."""

    @abstractmethod
    def twin(self, *, namespace: str | None = None) -> RunStore:
        """A store in the same place for another event loop (the lease thread's).

        It has the same runs, or those of another namespace.
        """

    def at_once(self) -> RunStore | None:
        """A store in the same place that never waits, to be closed after use; None if it cannot."""
        return self if self.never_waits else None

    # -- the life of a run

    @abstractmethod
    async def create(
        self, new: NewRun, items: Mapping[int, Iterable[bytes]] | None = None
    ) -> tuple[Ready, ...]:
        """Store a run whole, or not at all; return what is to be sent.

        ``items`` by step: what a map step was given itself, or what a step taken over as done
        had put out, each with its mark. Repeating it with the same run id creates nothing and
        returns what is ready now: the same answer, unless workers have begun.

        Raises:
            DuplicatePipelineError: A run of the same key has not ended.
            DuplicateTickError: The tick has fired before.
            BacklogFullError: Too many runs of its backlog key are PENDING.
        """

    async def create_started(self, new: NewRun, token: str) -> Grant | tuple[Ready, ...]:
        """Store a run like `create`, and take the lease of its first slot like `start`.

        Where more than one slot opens, or the first may have to wait (for a limit, a time, an
        event), nothing is started, and what is to be sent is returned. Repeating it with the same
        token gets the same answer. Stores that can do it in one call; these are two.
        """
        ready = await self.create(new)
        at = first_slot(new)
        answer = None if at is None else await self.start(Address(new.run_id, *at), token)
        return answer if isinstance(answer, Grant) else ready

    @abstractmethod
    async def start(self, address: Address, token: str, *, want: int = 1) -> Grant | Refusal:
        """Take the lease of a slot; ``want`` items of a map at the most."""

    @abstractmethod
    async def finish(
        self, address: Address, token: str, outcome: Outcome, next_token: str | None
    ) -> Finished:
        """Record an outcome; with a next token, go on with more work in the same call.

        One whose items are not all stored (any more) is refused like a stale one.
        """

    @abstractmethod
    async def renew(self, held: Sequence[Held]) -> dict[str, LostReason]:
        """Extend leases; return the tokens of those that are lost.

        One that its run's end took away keeps its places in limits until it is given back.
        """

    @abstractmethod
    async def release(
        self, address: Address, token: str, *, delay_seconds: float = 0.0
    ) -> tuple[Ready, ...]:
        """Give a slot back without counting an attempt; also after the end of its run."""

    @abstractmethod
    async def due(self, queues: Sequence[str], *, limit: int = 100) -> tuple[Wake, ...]:
        """Claim what stood still in these queues: each is handed to one caller."""

    @abstractmethod
    async def settle(self, run_id: str, kind: WakeKind) -> None:
        """Say that an ended run was published, or its parent told; `due` stops repeating it."""

    @abstractmethod
    async def cancel(self, run_id: str, reason: str) -> bool:
        """End a run as CANCELLED; False when it had ended, or never was."""

    @abstractmethod
    async def resume(self, address: Address, note: str) -> tuple[Ready, ...]:
        """Make a parked slot ready; its next grant carries the note."""

    @abstractmethod
    async def send_event(self, run_id: str, name: str, payload: bytes) -> tuple[Ready, ...] | None:
        """Deliver an event; None when the run has ended, or never was."""

    # -- values

    @abstractmethod
    async def put_items(self, held: Held, key: int, start: int, values: Sequence[bytes]) -> bool:
        """Store items of a sequence from index ``start`` on; False when the lease is lost."""

    @abstractmethod
    async def items(self, run_id: str, key: int, start: int, stop: int) -> list[bytes | None]:
        """Read items of a sequence, each with its mark; None where there is none yet."""

    @abstractmethod
    async def values(self, run_id: str, keys: Sequence[int]) -> dict[int, Value]:
        """Read outputs and inputs; keys without a value are left out."""

    # -- reading

    @abstractmethod
    async def get(self, run_id: str, *, steps: bool = True) -> RunSnapshot | None:
        """A run as it stands, with its started steps unless not wanted."""

    async def get_all(
        self, run_ids: Sequence[str], *, steps: bool = True
    ) -> list[tuple[RunSnapshot, bytes]]:
        """These runs, like `get`, each with its plan; without those that are gone.

        A run that goes on meanwhile may show steps that are further than it is.
        """
        found = await asyncio.gather(*(self._with_plan(run_id, steps) for run_id in run_ids))
        return [one for one in found if one is not None]

    async def _with_plan(self, run_id: str, steps: bool) -> tuple[RunSnapshot, bytes] | None:
        run = await self.get(run_id, steps=steps)
        plan = None if run is None else await self.plan(run_id)
        return None if run is None or plan is None else (run, plan)

    @abstractmethod
    async def open_slots(
        self, run_id: str, steps: Sequence[int], *, limits: Sequence[str] = (), limit: int = 200
    ) -> OpenSlots:
        """Slots of these steps that are not done, in order; none of a run that has ended.

        With ``limits``, keys of them, also which slots of all runs hold them.
        """

    @abstractmethod
    async def ending(self, run_id: str, keys: Sequence[int]) -> Ending | None:
        """How a run ended and these values, in one call; None while it goes on.

        Raises:
            RunNotFoundError: No such run.
        """

    @abstractmethod
    async def find(self, key: str) -> str | None:
        """The id of the latest run of a key; once that is deleted, an older one or None."""

    @abstractmethod
    async def plan(self, run_id: str) -> bytes | None:
        """The plan that a run was created with."""

    @abstractmethod
    async def list_runs(
        self, which: RunFilter, *, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """Runs by index, newest first, without steps and values."""

    @abstractmethod
    async def count_runs(self, where: RunFilter, *, at_most: int | None = None) -> int:
        """How many runs a listing would show; counting stops at a number if one is given."""

    @abstractmethod
    async def count_ended(
        self, *, since: float, until: float, buckets: int
    ) -> list[dict[RunStatus, int]]:
        """How many runs ended how, in each of the equal parts of a span of time, oldest first."""

    @abstractmethod
    async def step_totals(self, *, newest: int = 200) -> list[StepTotal]:
        """What the steps of the runs that ended last came to, in no order.

        Of so many runs, as far as they have no more than `SUMMED_STEPS` steps together.
        """

    @abstractmethod
    async def delete(self, run_id: str) -> bool:
        """Remove an ended run and all that belongs to it; a run that goes on stays (False)."""

    @abstractmethod
    async def purge(self, *, before: float, limit: int = 1000) -> int:
        """Remove runs that ended before a time; returns how many."""

    @abstractmethod
    async def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRecord]:
        """Events of a run in order, from ``after`` on, without gaps."""

    @abstractmethod
    async def feed(
        self, *, after: str | None = None, limit: int = 1000, wait_seconds: float = 0.0
    ) -> tuple[list[EventRecord], str]:
        """Events of all runs of the namespace in order, with the position to go on from.

        ``after=None`` starts now. Waits up to ``wait_seconds`` for the first one.
        """

    # -- notes that steps leave while they run

    @abstractmethod
    async def note_progress(self, run_id: str, step: int, progress: bytes) -> None:
        """Replace what a step says of its progress."""

    @abstractmethod
    async def append_log(self, run_id: str, lines: Sequence[bytes]) -> None:
        """Add log lines to a run; the oldest go when there are too many."""

    @abstractmethod
    async def log(
        self, run_id: str, *, after: int = 0, limit: int = 1000
    ) -> tuple[list[bytes], int]:
        """Log lines from a position on, with the position after them."""

    # -- who waits, who works

    @abstractmethod
    async def listen(self, listener: EndListener) -> bool:
        """Call the listener for runs that end from now on; False when the store cannot push."""

    @abstractmethod
    async def ended_among(self, run_ids: Sequence[str]) -> dict[str, RunStatus]:
        """Which of these runs have ended, in one call; a run that is gone counts as CANCELLED."""

    @abstractmethod
    async def announce(self, worker: WorkerRecord, *, ttl_seconds: float) -> None:
        """Say that a worker lives, for so long."""

    @abstractmethod
    async def withdraw(self, worker_id: str) -> None:
        """Say that a worker has gone."""

    @abstractmethod
    async def workers(self) -> list[WorkerRecord]:
        """The workers of the namespace that are alive."""

    @abstractmethod
    async def health(self) -> dict[str, Any]:
        """Facts for ``doctor``: version, durability, latency in milliseconds, its clock."""
