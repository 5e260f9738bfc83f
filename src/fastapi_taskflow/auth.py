"""Who may use the pages and routes of tasks, as `TaskAdmin(auth=…)` says it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast

from fastapi_taskflow.exceptions import AuthOptionError
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.exceptions import SecurityOptionError
from taskiq_flow.security import Identity, Role, Security, User, Users
from taskiq_flow.security.identity import read_role

logger = logging.getLogger("fastapi_taskflow.admin")

Login: TypeAlias = tuple[str, str] | tuple[str, str, str]
"""A name, a password, and a role; admin, if none is given."""


class TaskAuthBackend(ABC):
    """Checks names and passwords against whatever knows them."""

    @abstractmethod
    def authenticate_user(self, username: str, password: str) -> bool:
        """Whether the password is right; called in a thread, so it may take its time."""

    def role_of(self, username: str) -> str:  # noqa: ARG002 - for subclasses
        """What they may do: ``viewer``, ``operator`` or ``admin``; asked for at each request.

        Whoever gets anything else is not let in, and the log says so.
        """
        return Role.ADMIN


Auth: TypeAlias = Login | Sequence[Login] | TaskAuthBackend | Security | Literal[False] | None
"""None: what the settings say, and a token that is printed at the start where they say nothing.
False: everybody may do everything."""


def security_of(auth: Auth, *, token_expiry: float, secret_key: str | None) -> Security:
    """Make the security that ``auth`` asks for.

    Raises:
        AuthOptionError: It is nothing of the kind.
        SecurityOptionError: A password is empty, a name there twice, the key too short, or the
            time not above 0.
    """
    if isinstance(auth, Security):
        return auth
    if auth is False:
        return Security.off()
    changes: dict[str, Any] = {"session_seconds": token_expiry}
    if secret_key is not None:
        changes["secret_key"] = secret_key
    config = TaskiqFlowConfig()
    if auth is None:
        return Security.from_config(config, **changes)
    if isinstance(auth, TaskAuthBackend):
        # A user nobody can be, so that no token is made; the backend knows the real ones.
        made = Security.from_config(config, users={"-": User("-" * 32)}, **changes)
        made.users = _BackendUsers(auth)
        return made
    users = _users(auth)
    made = Security.from_config(config, users=users, **changes)
    made.users = _SameUsers(users)
    return made


def _users(auth: Any) -> dict[str, User]:
    given = list(cast("Sequence[Any]", auth)) if isinstance(auth, (tuple, list)) else []
    if not given:
        raise AuthOptionError(cast("object", auth))
    users: dict[str, User] = {}
    for one in [given] if isinstance(given[0], str) else given:
        match one:
            case (str(name), *_) if name in users:
                raise SecurityOptionError("auth", name, "is there twice, with one password each")
            case (str(name), str(password)):
                users[name] = User(password, Role.ADMIN)
            case (str(name), str(password), str(role)) if role in set(Role):
                users[name] = User(password, Role(role))
            case _:
                raise AuthOptionError(one)
    return users


class _SameUsers(Users):
    """Users whose sessions hold in every process that was given the same names and passwords.

    A stored password has a salt of its own in each process, so it cannot tell whether the
    password is still the same one.
    """

    def __init__(self, users: dict[str, User]) -> None:
        super().__init__(users)
        self._fingerprints = {
            name: hashlib.sha256(user.password.encode("utf-8", "surrogatepass")).hexdigest()
            for name, user in users.items()
        }

    def secret_of(self, name: str) -> str | None:
        return self._fingerprints.get(name)


class _BackendUsers(Users):
    """Users that a backend knows. Their sessions last as long as they may, whatever it says."""

    def __init__(self, backend: TaskAuthBackend) -> None:
        super().__init__({})
        self._backend = backend

    def __bool__(self) -> bool:
        return True

    async def check(self, name: str, password: str) -> Identity | None:
        known = await asyncio.to_thread(self._backend.authenticate_user, name, password)
        return self.identity(name) if known is True else None

    def identity(self, name: str) -> Identity | None:
        try:
            role = read_role(self._backend.role_of(name), where=f"role_of({name!r})")
        except SecurityOptionError as error:
            logger.error("%s They are not let in.", error)
            return None
        return Identity(name, role, None, "password")

    def secret_of(self, name: str) -> str | None:
        return name
