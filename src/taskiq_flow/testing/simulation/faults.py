"""What goes wrong in a simulated cluster: kinds of faults, and when each of them happens."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """One way in which the world of a worker is not perfect."""

    # processes
    CRASH = "crash"  # a worker is killed between any two operations, and started again later
    CLIENT_DEATH = "client-death"  # so is a client, between creating a run and sending it too
    STOP = "stop"  # a worker is told to stop, and another one is started
    PAUSE = "pause"  # a process stands still for up to three leases, its lease thread too
    BLOCK = "block"  # a step blocks the event loop; the lease thread goes on
    CALLBACK = "callback"  # dispatching coroutines die; middlewares and acknowledgements raise
    OLD_CODE = "old-code"  # a worker does not have all tasks yet
    # the broker
    DROP = "drop"  # a message is lost
    DUPLICATE = "duplicate"  # a message comes twice, also long after
    DELAY = "delay"  # messages overtake each other
    BACKLOG = "backlog"  # nothing is delivered for a while, then all of it
    BROKER_AWAY = "broker-away"  # sending fails, at once or after a long wait
    BACKEND = "backend"  # the result backend fails
    # the store
    LOST_REQUEST = "lost-request"  # a call does not arrive
    LOST_REPLY = "lost-reply"  # a call is obeyed, but its caller gets an error
    LATE_REQUEST = "late-request"  # a call is obeyed after its caller got an error
    SLOW = "slow"  # a call takes a good part of a lease
    OUTAGE = "outage"  # the store is away for everybody, for up to four leases
    PARTITION = "partition"  # the store is away for one process, for up to four leases
    FAILOVER = "failover"  # the store forgets what it acknowledged in the last 1.2 s


MAY_LOSE_LEASES = frozenset({Fault.CRASH, Fault.STOP, Fault.PAUSE, Fault.PARTITION, Fault.FAILOVER})
"""Faults that alone may make a lease run out; the others must not."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How often faults happen while they are on: chances per operation, or means of seconds.

    Lengths of outages and pauses are in leases, so that short leases make short simulations.
    """

    per_call: float = 0.03
    per_message: float = 0.08
    per_hook: float = 0.02
    crash_every: float = 12.0
    stop_every: float = 12.0
    pause_every: float = 8.0
    outage_every: float = 14.0
    callback_every: float = 3.0
    failover_every: float = 6.0
    backlog_every: float = 10.0
    longest_pause: float = 3.0
    longest_outage: float = 4.0
    longest_backlog: float = 4.0
    rolled_back_seconds: float = 1.2


@dataclass(slots=True)
class Dice:
    """Decides by seed; silent once the faulty time is over."""

    random: random.Random
    kinds: frozenset[Fault]
    rates: Rates = field(default_factory=Rates)
    active: bool = True
    thrown: Counter[Fault] = field(default_factory=Counter[Fault])

    def has(self, kind: Fault) -> bool:
        return self.active and kind in self.kinds

    def throw(self, kind: Fault, chance: float) -> bool:
        """Whether a fault happens now."""
        if not self.active or kind not in self.kinds or self.random.random() >= chance:
            return False
        self.thrown[kind] += 1
        return True

    def moments(self, kind: Fault, every: float, until: float) -> Iterator[float]:
        """When a fault happens, as seconds from the start; nothing when its kind is off."""
        if kind not in self.kinds:
            return
        # Half of the schedules have each fault more rarely, so that faults also meet calm.
        at, mean = 0.0, every * self.random.choice((1.0, 3.0))
        while True:
            at += self.random.expovariate(1 / mean)
            if at >= until:
                return
            self.thrown[kind] += 1
            yield at


def parse_faults(text: str) -> frozenset[Fault]:
    """Read names of faults separated by commas; ``all`` and ``none`` are names too.

    Raises:
        ValueError: A name is not known.
    """
    found: set[Fault] = set()
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name == "all":
            found.update(Fault)
        elif name != "none":
            found.add(Fault(name))
    return frozenset(found)


def describe_faults(kinds: Iterable[Fault]) -> str:
    """The names by which `parse_faults` finds these again."""
    chosen = set(kinds)
    if chosen == set(Fault):
        return "all"
    return ",".join(sorted(chosen)) or "none"


def seeded(*parts: object) -> random.Random:
    """Random numbers that are the same for the same parts, in every process."""
    return random.Random("/".join(str(part) for part in parts))
