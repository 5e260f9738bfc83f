"""Keeps passwords as scrypt hashes, and checks them in the same time whether right or wrong."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
from functools import lru_cache

from taskiq_flow.exceptions import SecurityOptionError

PREFIX = "scrypt"
_COST, _BLOCK, _LANES, _LENGTH = 2**14, 8, 1, 32
PASSWORD_MOST = 1024
"""A longer one is refused unread: hashing it would be work that anybody could ask for."""


def hash_password(password: str) -> str:
    """Make what is stored of a password, to be put into the settings."""
    salt = os.urandom(16)
    return f"{PREFIX}${_text(salt)}${_text(_derive(password, salt))}"


async def check_password(password: str, stored: str | None) -> bool:
    """Compare a password with what is stored; None stands for a user that is not there.

    Takes as long for one as for the other, and does not hold up the event loop.
    """
    if len(password) > PASSWORD_MOST:
        return False
    salt, expected = _parts(_nobody() if stored is None else stored)
    found = await asyncio.to_thread(_derive, password, salt)
    return hmac.compare_digest(found, expected) and stored is not None


def as_hash(given: str, *, where: str) -> str:
    """A hash as it is; a plain password is hashed.

    Raises:
        SecurityOptionError: It is neither: empty, or a hash of another kind.
    """
    if not given:
        raise SecurityOptionError(where, "", "must not be empty")
    if not given.startswith(f"{PREFIX}$"):
        return hash_password(given)
    try:
        _parts(given)
    except ValueError:
        raise SecurityOptionError(where, "…", "is no hash of hash_password()") from None
    return given


@lru_cache(maxsize=1)
def _nobody() -> str:
    return hash_password(os.urandom(16).hex())


def _derive(password: str, salt: bytes) -> bytes:
    # Bytes, so that any text is a password: `compare_digest` refuses text outside of ASCII.
    data = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(data, salt=salt, n=_COST, r=_BLOCK, p=_LANES, dklen=_LENGTH)


def _parts(stored: str) -> tuple[bytes, bytes]:
    kind, salt, derived = stored.split("$")
    if kind != PREFIX:
        raise ValueError(kind)
    return base64.b64decode(salt, validate=True), base64.b64decode(derived, validate=True)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
