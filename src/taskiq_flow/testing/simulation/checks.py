"""The promises as checks: who holds what, whose code runs, and what must never be seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from taskiq_flow.model.records import Address, Limit

SEEN_WITHIN_SECONDS = 2.5
"""How long code may go on after its lease was lost or its run ended: 2 s, and the way there."""

Unit = tuple[str, int, int | None]
"""What is run once if nothing goes wrong: run, step, and item inside a map."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, when, and what was seen."""

    at: float
    promise: str
    seen: str

    def __str__(self) -> str:
        return f"{self.at:10.3f}  {self.promise}: {self.seen}"


class Host(Protocol):
    """A simulated process, as far as the checks need to know it."""

    name: str

    @property
    def alive(self) -> bool: ...

    @property
    def frozen(self) -> bool: ...

    def disturbed(self, since: float) -> bool:
        """Whether it stood still, or alone could not reach the store, at some time since then."""
        ...

    def blocked(self, since: float) -> bool:
        """Whether its event loop alone stood still at some time since then."""
        ...

    def hindered(self, since: float) -> bool:
        """Whether anything kept it from hearing of a lost lease at some time since then."""
        ...


@dataclass(slots=True)
class Holding:
    """A lease that the store has given to a process."""

    token: str
    address: Address
    host: Host
    items: tuple[int, ...]
    claimed_at: float
    confirmed_at: float
    over: bool = False  # given back or recorded
    lost_at: float | None = None

    @property
    def units(self) -> list[Unit]:
        run_id, step, _ = self.address
        return [(run_id, step, item) for item in self.items] or [(run_id, step, None)]


@dataclass(slots=True, eq=False)
class Execution:
    """One call of user code that goes on."""

    unit: Unit
    host: Host
    holding: Holding
    began_at: float
    in_thread: bool


class Truth(Protocol):
    """What the checks ask the store; it answers at once and to everything."""

    def is_recorded(self, unit: Unit) -> bool: ...

    def may_begin(self, unit: Unit) -> bool:
        """Whether all that the step needs has ended."""
        ...

    def limits_of(self, unit: Unit) -> tuple[Limit, ...]:
        """The limits that its step is under."""
        ...

    def ended_at(self, run_id: str) -> float | None:
        """When the run ended."""
        ...


@dataclass(slots=True)
class Ledger:
    """Follows leases and running code, and says which promise is broken as soon as it is.

    Times are those of the virtual clock; ``now`` is set by who calls. ``held_up`` are steps in
    whose code a process stood still.
    """

    lease_seconds: float
    truth: Truth
    now: float = 0.0
    closed: bool = False
    violations: list[Violation] = field(default_factory=list[Violation])
    counts: Counter[str] = field(default_factory=Counter[str])
    executions: list[Execution] = field(default_factory=list[Execution])
    held_up: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    rolled_back_at: float = float("-inf")
    _holdings: dict[str, Holding] = field(default_factory=dict[str, Holding])
    _latest: dict[Address, str] = field(default_factory=dict[Address, str])
    _given_up: set[str] = field(default_factory=set[str])
    _failed_calls: dict[str, Counter[str]] = field(default_factory=dict[str, "Counter[str]"])
    _claims: dict[tuple[str, Unit], Holding] = field(
        default_factory=dict["tuple[str, Unit]", Holding]
    )
    _failed_renewals: dict[str, list[tuple[float, bool]]] = field(
        default_factory=dict[str, "list[tuple[float, bool]]"]
    )

    def violated(self, promise: str, seen: str) -> None:
        if not self.closed:
            self.violations.append(Violation(self.now, promise, seen))

    # -- leases, as the store gives and takes them

    def claimed(self, host: Host, address: Address, token: str, items: Iterable[int]) -> None:
        """A lease was granted, or its grant was repeated."""
        known = self._holdings.get(token)
        if known is not None and (known.host is not host or known.address != address):
            self.violated(
                "A token belongs to one claim", f"{token} of {known.address} now for {address}"
            )
        holding = Holding(token, address, host, tuple(items), self.now, self.now)
        if token in self._given_up:
            # It overtook the start that it was to undo, or a second start came after it.
            self._failed_calls.setdefault(token, Counter())["release"] += 1
        if known is None:
            self.counts["claims"] += 1
        self._holdings[token] = holding
        self._latest[address] = token
        for unit in holding.units:
            self._claims[host.name, unit] = holding

    def confirmed(self, token: str) -> None:
        """A lease was extended."""
        holding = self._holdings.get(token)
        if holding is not None:
            holding.confirmed_at = self.now

    def call_failed(
        self, host: Host, call: str, tokens: Iterable[str], *, outage: bool, late: bool
    ) -> None:
        """A call with these tokens ended in an error, whether it was obeyed or not.

        A late one is obeyed when nobody reckons with it any more.
        """
        if call == "renew":
            self._failed_renewals.setdefault(host.name, []).append((self.now, outage))
            return
        for token in tokens:
            self._failed_calls.setdefault(token, Counter())[call] += 2 if late else 1

    def given_back(self, token: str) -> None:
        """A release was asked for, whether there was something to give back or not."""
        self._given_up.add(token)
        holding = self._holdings.get(token)
        if holding is not None:
            holding.over = True
            holding.lost_at = self.now

    def finished(self, address: Address, token: str, *, recorded: bool, open_: bool) -> None:
        """An outcome was reported; ``open_`` says that its step had not ended before."""
        holding = self._holdings.get(token)
        latest = self._latest.get(address)
        if not recorded:
            self.counts["stale outcomes"] += 1
        if holding is None:
            return
        if latest is not None and not holding.over:
            if recorded and latest != token:
                self.violated("A late writer changes nothing", f"{address} was taken by {latest}")
            if not recorded and open_ and latest == token:
                self.violated("Work is not thrown away", f"{address} was free, but refused it")
        holding.over = holding.over or recorded

    def lost(self, address: Address, token: str | None) -> None:
        """The store has taken a lease away, because it was not renewed in time."""
        self.counts["leases lost"] += 1
        holding = self._holdings.get(token or "")
        if holding is None or self._latest.get(address) != token:
            return
        holding.lost_at = self.now
        if not self._may_be_lost(holding):
            self.violated(
                "A live worker keeps its lease",
                f"{address} of {holding.host.name}, renewed {self.now - holding.confirmed_at:.2f} "
                "s ago, was given away",
            )

    def _may_be_lost(self, holding: Holding) -> bool:
        since, host = holding.confirmed_at, holding.host
        if not host.alive or host.disturbed(since) or self.rolled_back_at >= since:
            return True
        if holding.confirmed_at == holding.claimed_at and host.blocked(since):
            return True  # the grant came to a loop that stood still, and has not been seen
        # Who could not give it back, or for long did not hear of its grant, lets it run out.
        failed = self._failed_calls.get(holding.token, Counter())
        if failed["release"] or failed["start"] + failed["finish"] >= 2:
            return True
        return self._renewals_failed(host, since)

    def _renewals_failed(self, host: Host, since: float) -> bool:
        """Two in a row are more than a lease can stand; but an outage alone takes no lease."""
        failed = [outage for at, outage in self._failed_renewals.get(host.name, ()) if at >= since]
        return len(failed) >= 2 and not all(failed)

    def rolled_back(self) -> None:
        """The store has forgotten the last moments: who holds what is open for a while."""
        self.rolled_back_at = self.now
        self._latest.clear()

    # -- user code

    def begin(self, host: Host, unit: Unit, *, in_thread: bool = False) -> Execution:
        """User code starts; this is where most promises are kept or broken."""
        self.counts["executions"] += 1
        holding = self._claims.get((host.name, unit))
        if holding is None:
            self.violated("Code runs only with a lease", f"{unit} on {host.name}")
            holding = Holding("", Address(*unit[:2], 0), host, (), self.now, self.now)
        age = self.now - holding.confirmed_at
        if age > self.lease_seconds / 2 + 0.001:
            self.violated(
                "Code starts on a lease that was confirmed within half a lease",
                f"{unit} on {host.name}, confirmed {age:.2f} s ago",
            )
        if self.truth.is_recorded(unit):
            self.violated("What is done is never run again", f"{unit} on {host.name}")
        forgotten = self.rolled_back_at >= holding.confirmed_at
        if not self.truth.may_begin(unit) and not forgotten:
            self.violated("A step runs after those that it needs", f"{unit} on {host.name}")
        for other in self.executions:
            if other.unit == unit:
                self._overlap(other, host)
        execution = Execution(unit, host, holding, self.now, in_thread)
        self.executions.append(execution)
        for limit in self.truth.limits_of(unit):
            self._check_limit(limit)
        return execution

    def _check_limit(self, limit: Limit) -> None:
        """Count those that run with a good lease; one that was lost has freed its place."""
        if limit.most is None:
            return
        sharing = [
            one
            for one in self.executions
            if limit in self.truth.limits_of(one.unit) and self._is_good(one)
        ]
        if len(sharing) > limit.most:
            units = [f"{one.unit} on {one.host.name}" for one in sharing]
            self.violated("A limit holds", f"{units} share {limit.key}, {limit.most} may")

    def _is_good(self, execution: Execution) -> bool:
        holding, host = execution.holding, execution.host
        since = holding.confirmed_at
        if holding.lost_at is not None:
            return False
        gone = not host.alive or host.disturbed(since) or self.rolled_back_at >= since
        return not gone and not self._renewals_failed(host, since)

    def _overlap(self, other: Execution, host: Host) -> None:
        self.counts["overlaps"] += 1
        if other.host.frozen or not other.host.alive:
            return
        holding = other.holding
        since = holding.confirmed_at
        if other.host.disturbed(since) or self.rolled_back_at >= since:
            return
        if self._renewals_failed(other.host, since):
            return
        self.violated(
            "Two live workers never run the same step at once",
            f"{other.unit} on {host.name}, while {other.host.name} runs it since "
            f"{self.now - other.began_at:.2f} s",
        )

    def end(self, execution: Execution) -> None:
        """User code has returned, raised, or was cancelled."""
        if execution in self.executions:
            self.executions.remove(execution)
            host, since = execution.host, execution.began_at
            if host.disturbed(since) or host.blocked(since):
                self.held_up.add(execution.unit[:2])
            self._check_stopped_in_time(execution)

    def _check_stopped_in_time(self, execution: Execution) -> None:
        if execution.in_thread:
            return  # a thread cannot be stopped
        holding = execution.holding
        lost_at = holding.lost_at
        ended_at = self.truth.ended_at(execution.unit[0])
        known = [at for at in (lost_at, ended_at) if at is not None]
        if not known or self.now - min(known) <= SEEN_WITHIN_SECONDS:
            return
        host, since = execution.host, min(known)
        if host.hindered(since) or self.rolled_back_at >= since:
            return
        if any(at >= since for at, _ in self._failed_renewals.get(host.name, ())):
            return
        self.violated(
            "Code whose lease is lost is stopped within 2 s",
            f"{execution.unit} on {host.name} went on for {self.now - since:.2f} s",
        )

    def died(self, host: Host) -> None:
        """A process is gone, and its code with it."""
        self.executions = [one for one in self.executions if one.host is not host]
