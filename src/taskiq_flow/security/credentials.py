"""What somebody can prove who they are with: a printed token, a key, a name and a password."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from taskiq_flow.exceptions import SecurityOptionError
from taskiq_flow.security.identity import Identity, Role, highest_role, read_pipelines
from taskiq_flow.security.passwords import as_hash, check_password

KEY_LEAST = 8


@dataclass(frozen=True, slots=True)
class User:
    """A user with a password; ``password`` may be plain, or what `hash_password` made of it."""

    password: str
    role: Role = Role.VIEWER
    pipelines: tuple[str, ...] | None = None


class Users:
    """Users by name. Plain passwords are hashed at once, and not kept."""

    def __init__(self, users: Mapping[str, User | Mapping[str, Any] | str]) -> None:
        self._users = {name: _user(name, given) for name, given in users.items()}

    def __bool__(self) -> bool:
        return bool(self._users)

    async def check(self, name: str, password: str) -> Identity | None:
        """Who gave the right password; takes as long for a name that is not there."""
        user = self._users.get(name)
        is_right = await check_password(password, None if user is None else user.password)
        return self.identity(name) if is_right else None

    def identity(self, name: str) -> Identity | None:
        """A user as they are now, whatever they were when a session began."""
        user = self._users.get(name)
        return None if user is None else Identity(name, user.role, user.pipelines, "password")

    def secret_of(self, name: str) -> str | None:
        """What changes when the password of a user does."""
        user = self._users.get(name)
        return None if user is None else user.password


class ApiKeys:
    """Keys of programs; looked up by their digest, so the time that takes says nothing of a key."""

    def __init__(self, keys: Mapping[str, Mapping[str, Any] | str]) -> None:
        self._keys: dict[bytes, Identity] = {}
        for number, (key, given) in enumerate(keys.items(), 1):
            facts: Mapping[str, Any] = {"role": given} if isinstance(given, str) else given
            name = str(facts.get("name", f"key {number}"))
            where = f"api_keys[{name}]"
            if len(key) < KEY_LEAST:
                raise SecurityOptionError(where, "…", f"must have at least {KEY_LEAST} characters")
            self._keys[_digest(key)] = Identity(
                name,
                highest_role(facts, where=f"{where}.role"),
                read_pipelines(facts, where=f"{where}.pipelines"),
                "api key",
            )

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, key: str) -> Identity | None:
        """Whose key it is."""
        return self._keys.get(_digest(key))


def _user(name: str, given: User | Mapping[str, Any] | str) -> User:
    where = f"users[{name}]"
    if isinstance(given, User):
        return User(as_hash(given.password, where=where), given.role, given.pipelines)
    facts: Mapping[str, Any] = {"password": given} if isinstance(given, str) else given
    password = facts.get("password", facts.get("password_hash"))
    if not isinstance(password, str):
        raise SecurityOptionError(where, cast("object", sorted(facts)), "has no password")
    return User(
        as_hash(password, where=where),
        highest_role(facts, where=f"{where}.role"),
        read_pipelines(facts, where=f"{where}.pipelines"),
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
