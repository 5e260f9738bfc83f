"""How often, after which pauses and for which errors a failed step is tried again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

from taskiq_flow.exceptions import InvalidTaskOptionError

ExceptionKinds: TypeAlias = type[BaseException] | str | Sequence[type[BaseException] | str]
"""Exception types, or their qualified names where importing them here is not wanted."""


class NamedTask(Protocol):
    """A task, as far as its name goes: workers find the rest by it."""

    task_name: str


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after which pauses, a failed step is tried again.

    ``max_attempts`` counts the first try. The pause before retry *n* is
    ``delay * backoff ** (n - 1)`` seconds, at most ``max_delay``; jitter lengthens it by up to a
    quarter, never shortens it. No retry starts ``max_total`` seconds after the first try began.
    ``retry_on`` and ``no_retry_on`` are exception types or their qualified names; subclasses
    count. ``on_retry`` is a task, or the name of one, that a worker runs before each retry with
    the error as text and the number of the failed try.

    Raises:
        InvalidTaskOptionError: ``on_retry`` is neither, or a filter names no exception types.
    """

    max_attempts: int = 1
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 300.0
    jitter: bool = True
    max_total: float | None = None
    retry_on: ExceptionKinds = ()
    no_retry_on: ExceptionKinds = ()
    on_retry: str | NamedTask | None = None

    def __post_init__(self) -> None:
        # Stored with the plan, so from here on all of them are names.
        object.__setattr__(self, "retry_on", names_of(self.retry_on))
        object.__setattr__(self, "no_retry_on", names_of(self.no_retry_on))
        object.__setattr__(self, "on_retry", name_of_task("on_retry", self.on_retry))

    def pause(self, failures: int, chance: float) -> float:
        """Seconds to wait after this many failures; ``chance`` in [0, 1) draws the jitter."""
        pause = backoff_pause(failures, self.delay, self.backoff, self.max_delay)
        return pause * (1 + 0.25 * chance) if self.jitter else pause

    def allows(self, failures: int, error: BaseException, elapsed: float) -> bool:
        """Say whether another try may follow this many failures, ``elapsed`` s after the first."""
        if failures >= self.max_attempts:
            return False
        if self.max_total is not None and elapsed >= self.max_total:
            return False
        names = {qualified_name(kind) for kind in type(error).__mro__}
        if names.intersection(names_of(self.no_retry_on)):
            return False
        wanted = names_of(self.retry_on)
        return not wanted or bool(names.intersection(wanted))


def backoff_pause(failures: int, delay: float, backoff: float, most: float) -> float:
    """Seconds to wait after this many failures, without jitter."""
    try:
        return min(delay * backoff ** max(0, failures - 1), most)
    except OverflowError:  # after a thousand failures or so
        return most


def qualified_name(kind: type) -> str:
    """The name by which a type is compared with stored ones; nothing is imported by it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def names_of(kinds: ExceptionKinds) -> tuple[str, ...]:
    """The qualified names of exception types, as a policy stores them.

    Raises:
        InvalidTaskOptionError: One of them is neither a type nor a name.
    """
    many = (kinds,) if isinstance(kinds, str) or not isinstance(kinds, Iterable) else tuple(kinds)
    for kind in cast("Sequence[object]", many):
        if not isinstance(kind, (type, str)):
            raise InvalidTaskOptionError(
                "retry_on", kind, "must be exception types or their qualified names"
            )
    return tuple(kind if isinstance(kind, str) else qualified_name(kind) for kind in many)


def name_of_task(option: str, task: object) -> str | None:
    """The name of a task that is given as itself or by its name; None stays None.

    Raises:
        InvalidTaskOptionError: It is something else: a worker could not find it.
    """
    if task is None:
        return None
    name = task if isinstance(task, str) else getattr(task, "task_name", None)
    if not isinstance(name, str) or not name:
        raise InvalidTaskOptionError(
            option,
            task,
            "must be a task or the name of one, because workers in other processes run it; "
            "decorate the function with @broker.task",
        )
    return name


NO_RETRY = RetryPolicy()
"""One try, and no more."""
