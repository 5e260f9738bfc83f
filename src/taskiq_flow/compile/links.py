"""The links of a chain, as `Pipeline` notes them down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from taskiq_flow.compile.compiled import Compiled
from taskiq_flow.compile.policies import Policies
from taskiq_flow.compile.uses import TaskUse
from taskiq_flow.conditions import Condition, ValueAt
from taskiq_flow.plan import MapMode

if TYPE_CHECKING:
    from taskiq_flow.compile.reduction import Reduction


class Shape(NamedTuple):
    """How a chain is started: so many positional values, and these by name."""

    positional: int = 0
    named: tuple[str, ...] = ()


class ChildPlan(NamedTuple):
    """A pipeline compiled for values of one shape.

    ``order`` has, for each slot, the place of its value among those of the shape; None means that
    the only value is a dict of them by name.
    """

    compiled: Compiled
    order: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class ChildUse:
    """A pipeline as one step uses it: each time a run of its own.

    ``prepare`` compiles the pipeline as it was when it was added; no shape means the least one.
    """

    name: str
    prepare: Callable[[Shape | None], ChildPlan]
    labels: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeout_seconds: float | None = None
    max_parallel: int | None = None
    tags: tuple[str, ...] = ()


Use: TypeAlias = TaskUse | ChildUse


@dataclass(frozen=True, slots=True)
class Next:
    """Take the previous value, give the next one."""

    use: Use


@dataclass(frozen=True, slots=True)
class After:
    """Run without the previous value, which passes by unless it is replaced."""

    use: Use
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Map:
    """Run once for each item: of the encoded ``items``, else of the previous value."""

    use: Use
    items: Sequence[bytes] | None = None
    output: str | None = None
    max_parallel: int | None = None
    skip_errors: bool = False
    mode: MapMode = MapMode.MAP


@dataclass(frozen=True, slots=True)
class Group:
    """Run several tasks on the previous value; the list of their results is the next one."""

    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class Reduce:
    """Make one value of the list that is the previous value."""

    use: TaskUse
    how: Reduction
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait without a worker; the previous value passes by."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Wait without a worker for an event, whose payload is the next value."""

    event: str
    timeout_seconds: float | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """One way that a branch can take; without links the value passes by.

    ``policies`` are those of a pipeline that stands in the branch.
    """

    links: tuple[Link, ...] = ()
    policies: Policies | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """Go one of several ways, chosen by a task, a comparison, or a part of the previous value.

    With ``by_truth`` the cases are True and False, else encoded keys.
    """

    on: TaskUse | Condition | ValueAt
    cases: tuple[tuple[str, Arm], ...]
    default: Arm | None = None
    by_truth: bool = False


@dataclass(frozen=True, slots=True)
class Compensate:
    """Take back the step before it when the run does not complete."""

    use: TaskUse


Link: TypeAlias = Next | After | Map | Group | Reduce | Sleep | WaitFor | Branch | Compensate
