"""Who somebody is here: a name, a role, and the pipelines they may see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, cast

from taskiq_flow.exceptions import SecurityOptionError


class Role(StrEnum):
    """What somebody may do; each role may also do all that those before it may."""

    VIEWER = "viewer"  # look at everything
    OPERATOR = "operator"  # act on runs: cancel, retry, fork, send events, replay, schedules
    ADMIN = "admin"  # remove: runs, schedules; and read the audit

    @property
    def rank(self) -> int:
        return tuple(Role).index(self)

    def allows(self, wanted: Role) -> bool:
        """Whether whoever has this role may do what needs another."""
        return self.rank >= wanted.rank


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who is known. ``pipelines`` are globs, None means all; ``via`` is how they came.

    ``is_session`` says that a browser's cookie vouches for them: then a state change needs more,
    since a browser sends cookies along with what other sites ask for.
    """

    name: str
    role: Role
    pipelines: tuple[str, ...] | None = None
    via: str = ""
    is_session: bool = False

    def may_see(self, *names: str) -> bool:
        """Whether one of the names of a pipeline or run (its name, its id) is among theirs."""
        if self.pipelines is None:
            return True
        return any(fnmatchcase(name, glob) for name in names if name for glob in self.pipelines)


def read_role(given: object, *, where: str) -> Role:
    """A role by its name.

    Raises:
        SecurityOptionError: There is no such role.
    """
    try:
        return Role(str(given).lower())
    except ValueError:
        known = ", ".join(role.value for role in Role)
        raise SecurityOptionError(where, given, f"must be one of {known}") from None


def highest_role(facts: Mapping[str, Any], *, where: str) -> Role:
    """The role that ``role`` or ``roles`` name, the highest of several; viewer where none is said.

    Raises:
        SecurityOptionError: There is no such role.
    """
    said: Any = facts.get("role", facts.get("roles", Role.VIEWER))
    names: Iterable[Any] = [said] if isinstance(said, str) else said
    roles = [read_role(name, where=where) for name in names]
    return max(roles, key=lambda role: role.rank, default=Role.VIEWER)


def read_pipelines(facts: Mapping[str, Any], *, where: str) -> tuple[str, ...] | None:
    """The globs under ``pipelines`` or ``pipeline_whitelist``; None (all) where neither is there.

    Raises:
        SecurityOptionError: They are no list of texts.
    """
    said: Any = facts.get("pipelines", facts.get("pipeline_whitelist"))
    if said is None:
        return None
    globs: list[object] = list(cast("Iterable[object]", said)) if not isinstance(said, str) else []
    if isinstance(said, str) or not all(isinstance(glob, str) for glob in globs):
        raise SecurityOptionError(where, said, "must be a list of names or globs")
    return tuple(str(glob) for glob in globs)
