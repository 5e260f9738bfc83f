"""Sessions of browsers: a signed cookie, which says who, until when, and nothing secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

REVOKED_MOST = 10_000


class Revocations(Protocol):
    """Where it is kept which sessions were ended, for all processes; any storage adapter."""

    async def exists(self, key: str) -> bool: ...

    async def set(self, key: str, value: Any, ttl_seconds: float | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Session:
    """What a cookie says. ``proof`` ties it to the credentials it was given for."""

    session_id: str
    name: str
    via: str
    proof: str
    expires_at: float


@dataclass(slots=True)
class Sessions:
    """Makes and reads the cookies of one secret.

    Ended sessions are remembered until they would have expired anyway: in this process, and in
    ``revocations`` for all processes where there is one.
    """

    secret: bytes
    seconds: float
    revocations: Revocations | None = None
    _ended: OrderedDict[str, float] = field(default_factory=OrderedDict[str, float])

    def begin(self, name: str, via: str, proof: str) -> tuple[Session, str]:
        """A new session, and the value of its cookie."""
        session = Session(
            secrets.token_urlsafe(18), name, via, proof, round(time.time() + self.seconds)
        )
        facts = [session.session_id, name, via, proof, session.expires_at]
        body = _text(json.dumps(facts).encode())
        return session, f"{body}.{self._sign('session', body)}"

    async def read(self, value: str) -> Session | None:
        """The session of a cookie; None when it is not ours, has expired, or was ended."""
        body, _, signature = value.partition(".")
        if not same_secret(signature, self._sign("session", body)):
            return None
        try:
            session = Session(*cast("list[Any]", json.loads(base64.urlsafe_b64decode(body))))
        except (ValueError, TypeError):
            return None
        if session.expires_at <= time.time() or session.session_id in self._ended:
            return None
        if self.revocations is not None and await self.revocations.exists(_key(session)):
            return None
        return session

    async def end(self, session: Session) -> None:
        """Let a session be of no more use, wherever its cookie still is."""
        self._ended[session.session_id] = session.expires_at
        now = time.time()
        while self._ended and (
            len(self._ended) > REVOKED_MOST or next(iter(self._ended.values())) <= now
        ):
            self._ended.popitem(last=False)
        if self.revocations is not None:
            left = max(1.0, session.expires_at - now)
            await self.revocations.set(_key(session), True, left)

    def csrf_token(self, session_id: str) -> str:
        """What a page of a session sends along with each state change."""
        return self._sign("csrf", session_id)

    def is_csrf_token(self, session_id: str, given: str) -> bool:
        return same_secret(given, self.csrf_token(session_id))

    def proof_of(self, credentials: str) -> str:
        """What ties a session to credentials: when these change, it ends."""
        return self._sign("proof", credentials)[:16]

    def _sign(self, purpose: str, text: str) -> str:
        data = f"{purpose}:{text}".encode("utf-8", "surrogatepass")
        return _text(hmac.new(self.secret, data, hashlib.sha256).digest())


def same_secret(given: str, expected: str) -> bool:
    """Compare in the same time whether equal or not; takes any text, and any length."""
    return hmac.compare_digest(_digest(given), _digest(expected))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _text(data: bytes) -> str:
    # With its padding, so that it decodes as it is; "=" may stand in a cookie's value.
    return base64.urlsafe_b64encode(data).decode()


def _key(session: Session) -> str:
    return f"ended:{session.session_id}"
