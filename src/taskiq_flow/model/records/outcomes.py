"""What a worker says became of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from taskiq_flow.model.records.runs import bound_items_key
from taskiq_flow.model.records.words import OnFailure


class Done(NamedTuple):
    """The step returned ``value``; ``skip`` names successors that are not taken."""

    value: bytes
    skip: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DoneSequence:
    """The step returned ``length`` items, already stored one by one."""

    length: int


@dataclass(frozen=True, slots=True)
class Expanded:
    """The items of a map step, ``length`` of them, are stored; its slots may open."""

    length: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The step failed for good."""

    error: bytes
    then: OnFailure = OnFailure.STOP


@dataclass(frozen=True, slots=True)
class Retry:
    """The step failed and is due again after ``delay_seconds``."""

    error: bytes
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Aborted:
    """The step asked for its run to end as CANCELLED."""

    reason: str


@dataclass(frozen=True, slots=True)
class Parked:
    """The step waits for something without a worker, at most until ``timeout_seconds``."""

    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ItemDone:
    """One item is finished; ``value`` carries its mark."""

    number: int
    value: bytes


@dataclass(frozen=True, slots=True)
class ItemRetry:
    """One item failed and is due again after ``delay_seconds``."""

    number: int
    error: bytes
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Items:
    """What became of some of a slot's items; ``failed`` ends the step after recording them.

    ``errors`` counts the items among ``done`` whose value is a FAILED mark or a skipped error.
    ``want`` is how many items the worker would take next (the store may give fewer).
    """

    done: tuple[ItemDone, ...]
    retries: tuple[ItemRetry, ...] = ()
    failed: Failed | None = None
    errors: int = 0
    want: int = 1


Outcome: TypeAlias = Done | DoneSequence | Expanded | Failed | Retry | Aborted | Parked | Items


def stored_items(outcome: Outcome, step: int) -> tuple[int, int] | None:
    """The key and the number of items that an outcome says have been stored, if it is of such.

    They were stored in calls before it: a store that failed over may have forgotten them, and
    refuses the outcome then.
    """
    match outcome:
        case DoneSequence(length=length):
            return step, length
        case Expanded(length=length):
            return bound_items_key(step), length
        case _:
            return None
