"""Rules of who may do what with which pipeline, beyond roles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase

from taskiq_flow.exceptions import NotAllowedError, SecurityOptionError
from taskiq_flow.security.identity import Identity, Role


class Access(StrEnum):
    """What is done with a pipeline."""

    READ = "read"
    EXECUTE = "execute"  # start it, cancel, retry, fork its runs, send them events
    ADMIN = "admin"  # delete its runs


_SAME = {"write": Access.EXECUTE}
_LEAST = {Access.READ: Role.VIEWER, Access.EXECUTE: Role.OPERATOR, Access.ADMIN: Role.ADMIN}


class PipelineAuthorization:
    """Narrows what roles may do to some pipelines; globs such as ``report_*`` are understood.

    ``rules`` say for a role (or a name) which pipelines it may ``read``, ``write`` (or
    ``execute``) and ``admin``. ``pipeline_acls`` say for pipelines which roles or names may. Who
    may do more with a pipeline may do less with it too. Where there are no rules at all, roles
    alone decide; a pipeline that no rule names may only be seen by admins.

    Raises:
        SecurityOptionError: A rule names something that cannot be done.
    """

    def __init__(
        self,
        rules: Mapping[str, Mapping[str, Iterable[str]]] | None = None,
        *,
        pipeline_acls: Mapping[str, Mapping[str, Iterable[str]]] | None = None,
    ) -> None:
        found: list[tuple[str, str, Access]] = []  # pipeline glob, role or name, what
        for who, allowed in (rules or {}).items():
            found += [
                (glob, who, access)
                for word, globs in allowed.items()
                for access in _up_to(word)
                for glob in globs
            ]
        for glob, allowed in (pipeline_acls or {}).items():
            found += [
                (glob, who, access)
                for word, people in allowed.items()
                for access in _up_to(word)
                for who in people
            ]
        self._rules = tuple(found)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def allows(self, identity: Identity, access: Access | str, *pipelines: str) -> bool:
        """Whether somebody may do this with a pipeline, by one of its names."""
        wanted = _access(access)
        names = [name for name in pipelines if name]
        if not identity.may_see(*names):
            return False
        if identity.role is Role.ADMIN:
            return True
        if not self._rules:
            return identity.role.allows(_LEAST[wanted])
        who = {identity.name, identity.role.value, "*"}
        return any(
            allowed is wanted and person in who and any(fnmatchcase(n, glob) for n in names)
            for glob, person, allowed in self._rules
        )


def verify_pipeline_access(
    identity: Identity,
    pipeline_id: str,
    access: Access | str = Access.READ,
    *,
    authorization: PipelineAuthorization | None = None,
) -> None:
    """Refuse what somebody may not do with a pipeline.

    Raises:
        NotAllowedError: They may not.
    """
    rules = authorization or PipelineAuthorization()
    if not rules.allows(identity, access, pipeline_id):
        what = f"{_access(access)} pipeline {pipeline_id[:100]!r}"
        raise NotAllowedError(identity.name, what, "their role or pipelines do not include it")


def _access(word: Access | str) -> Access:
    try:
        return _SAME.get(word) or Access(word)
    except ValueError:
        known = ", ".join(access.value for access in Access)
        raise SecurityOptionError("access", word, f"must be one of {known}, write") from None


def _up_to(word: str) -> tuple[Access, ...]:
    """What somebody may do who may do this."""
    every = tuple(Access)
    return every[: every.index(_access(word)) + 1]
