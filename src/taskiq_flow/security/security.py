"""Decides who asks, and whether their request may change something: one door for all pages."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Protocol, TypeAlias

from taskiq_flow.config import AuthKind, TaskiqFlowConfig
from taskiq_flow.exceptions import (
    NotAllowedError,
    NotAuthenticatedError,
    SecurityOptionError,
    TooManyAttemptsError,
)
from taskiq_flow.model.numbers import LONGEST_SECONDS, is_number
from taskiq_flow.security.credentials import ApiKeys, User, Users
from taskiq_flow.security.identity import Identity, Role
from taskiq_flow.security.limiter import Limiter, Rate
from taskiq_flow.security.requests import (
    SAFE_METHODS,
    Scope,
    client_of,
    cookie,
    header,
    is_https,
    is_same_origin,
)
from taskiq_flow.security.sessions import Revocations, Session, Sessions, same_secret

Identify: TypeAlias = Callable[[Scope], Identity | Awaitable[Identity | None] | None]
"""A way of your own to find out who asks: gets the ASGI scope, returns None for nobody."""


class AuthProvider(Protocol):
    """What reads a token that came as ``Authorization: Bearer``, such as `TokenAuthProvider`."""

    def read(self, token: str) -> Identity:
        """Who a token is of.

        Raises:
            NotAuthenticatedError: It is not accepted.
        """
        ...


Record: TypeAlias = Callable[..., Awaitable[None]]
"""Writes to the audit: ``record(actor, action, target, ok=…, error=…)``."""

COOKIE = "taskiq_flow_session"
TOKEN_NAME = "token"  # noqa: S105 - what a session of it is called, not a secret
CSRF_HEADER, CSRF_FIELD = "x-csrf-token", "csrf_token"
IDENTITY, SESSION, SECURITY = (
    "taskiq_flow.identity",
    "taskiq_flow.session",
    "taskiq_flow.security",
)
"""What the middleware puts into the scope of a request."""

NOBODY_NEEDED = Identity("anybody", Role.ADMIN, None, "security is off")


@dataclass(frozen=True, slots=True)
class Login:
    """A login that succeeded: who it is, and the header that gives the browser its cookie."""

    identity: Identity
    cookie: tuple[bytes, bytes]


class Security:
    """Who may ask, and what makes a state change theirs.

    Without any way to log in given, a token is made and written to the log once (`token`). Ways
    may be combined: users with passwords and the token log browsers in; API keys (``X-API-Key``),
    the token and JWT (``Authorization: Bearer``) come with each request of a program; ``identify``
    is asked first. Sessions are cookies signed with ``secret_key``: processes that serve the same
    pages share it, and ``revocations`` (any storage adapter) so that a logout counts for all.

    Raises:
        SecurityOptionError: An option cannot work.
    """

    def __init__(  # noqa: PLR0913 - each is an option of its own
        self,
        *,
        enabled: bool = True,
        token: str | None = None,
        users: Mapping[str, User | Mapping[str, Any] | str] | None = None,
        api_keys: Mapping[str, Mapping[str, Any] | str] | None = None,
        jwt: AuthProvider | None = None,
        identify: Identify | None = None,
        secret_key: str | None = None,
        session_seconds: float = 8 * 3600.0,
        allowed_origins: Iterable[str] = (),
        require_https: bool = False,
        login_rate: str = "10/minute",
        revocations: Revocations | None = None,
        record: Record | None = None,
    ) -> None:
        self.enabled, self.require_https = enabled, require_https
        self.users, self.api_keys = Users(users or {}), ApiKeys(api_keys or {})
        self.jwt, self.identify, self.record = jwt, identify, record
        has_way = bool(self.users or self.api_keys or jwt is not None or identify is not None)
        self.token = token
        self.is_token_made = enabled and token is None and not has_way
        if self.is_token_made:
            self.token = secrets.token_urlsafe(24)
        _check_secret("token", token, 8)
        _check_secret("secret_key", secret_key, 16)
        if not is_number(session_seconds) or not 0 < session_seconds <= LONGEST_SECONDS:
            rule = "must be a number of seconds above 0, up to a hundred years"
            raise SecurityOptionError("session_seconds", session_seconds, rule)
        key = secrets.token_bytes(32) if secret_key is None else secret_key.encode()
        self.sessions = Sessions(key, session_seconds, revocations)
        self.allowed_origins = frozenset(one.rstrip("/").lower() for one in allowed_origins)
        rate = Rate.read(login_rate, where="login_rate")
        self._attempts = Limiter(rate, "logins")

    @classmethod
    def off(cls) -> Security:
        """Everybody may do everything; who asks from another site's page may still not."""
        return cls(enabled=False)

    @classmethod
    def from_config(cls, config: TaskiqFlowConfig, **changes: Any) -> Security:
        """What the settings say, see the table of settings.

        Raises:
            SecurityOptionError: An option cannot work, or what ``auth_provider`` needs is missing.
            MissingExtraError: JWT is asked for, and its package is not installed.
        """
        _check_provider(config)
        jwt: AuthProvider | None = None
        if config.jwt_secret is not None:
            module = import_module("taskiq_flow.security.jwt_tokens")
            secret = config.jwt_secret.get_secret_value()
            jwt = module.TokenAuthProvider(secret, algorithm=config.jwt_algorithm)
        options: dict[str, Any] = {
            "enabled": config.security_enabled,
            "token": _secret(config.security_token),
            "users": config.security_users,
            "api_keys": config.api_keys,
            "jwt": jwt,
            "secret_key": _secret(config.secret_key),
            "session_seconds": config.session_seconds,
            "allowed_origins": config.allowed_origins,
            "require_https": config.require_https,
            "login_rate": config.login_rate,
        }
        return cls(**{**options, **changes})

    @property
    def has_login(self) -> bool:
        """Whether a page with a form makes sense: somebody can log in with a browser."""
        return self.enabled and (bool(self.users) or self.token is not None)

    # -- who asks

    async def authenticate(self, scope: Scope) -> Identity | None:
        """Who asks; None for nobody. Leaves the session of a browser in the scope.

        Raises:
            NotAuthenticatedError: A token, key or session came along, and is not valid.
        """
        if not self.enabled:
            return NOBODY_NEEDED
        if self.identify is not None:
            found = self.identify(scope)
            identity = await found if inspect.isawaitable(found) else found
            if identity is not None:
                return identity
        key = header(scope, "x-api-key")
        if key is not None:
            identity = self.api_keys.check(key)
            if identity is None:
                raise NotAuthenticatedError("the API key was not accepted")
            return identity
        kind, _, bearer = (header(scope, "authorization") or "").partition(" ")
        if kind.lower() == "bearer":
            return self._bearer(bearer.strip())
        value = cookie(scope, COOKIE)
        session = None if value is None else await self.sessions.read(value)
        if session is None:
            return None
        scope[SESSION] = session
        identity = self._identity_of(session)
        return None if identity is None else replace(identity, is_session=True)

    def check_state_change(self, scope: Scope, identity: Identity, csrf_token: str | None) -> None:
        """Whether a request that changes something was meant by who asks.

        Raises:
            NotAllowedError: A page of another site asks, or the page's token is missing.
        """
        what = f"{scope.get('method', 'open')} this"
        is_same = is_same_origin(scope, self.allowed_origins)
        if is_same is False:
            raise NotAllowedError(identity.name, what, "the request comes from another site")
        session: Session | None = scope.get(SESSION)
        if not identity.is_session or session is None:
            return
        if csrf_token is None or not self.sessions.is_csrf_token(session.session_id, csrf_token):
            why = "the page's CSRF token is missing or old; load the page again"
            raise NotAllowedError(identity.name, what, why)

    def check_socket(self, scope: Scope) -> None:
        """Whether a WebSocket may be opened: a browser asks nobody before it opens one.

        Raises:
            NotAllowedError: A page of another site asks.
        """
        if is_same_origin(scope, self.allowed_origins) is False:
            raise NotAllowedError("a page of another site", "open this", "its origin is not ours")

    def needs_csrf_token(self, scope: Scope) -> bool:
        """Whether a request has to carry the token of its page."""
        return scope["method"] not in SAFE_METHODS and SESSION in scope

    def csrf_token(self, scope: Scope) -> str:
        """What pages put into their forms (field ``csrf_token``) or header ``X-CSRF-Token``."""
        session: Session | None = scope.get(SESSION)
        return "" if session is None else self.sessions.csrf_token(session.session_id)

    # -- coming and going

    async def login(
        self, scope: Scope, *, name: str = "", password: str = "", token: str = ""
    ) -> Login:
        """Begin a session by the token, or by a name and a password.

        Raises:
            NotAuthenticatedError: They are wrong.
            TooManyAttemptsError: There were too many tries from there, or for this name.
            NotAllowedError: A page of another site asks.
        """
        client = client_of(scope)
        if is_same_origin(scope, self.allowed_origins) is False:
            raise NotAllowedError(client, "log in", "the request comes from another site")
        keys = [f"client:{client}"] + ([f"name:{name[:200]}"] if name else [])
        try:
            for key in keys:
                self._attempts.take(key)
        except TooManyAttemptsError as error:
            await self._write(name or TOKEN_NAME, "login", client, ok=False, error=str(error))
            raise
        identity = await self._check(name, password, token)
        if identity is None:
            await self._write(name or TOKEN_NAME, "login", client, ok=False, error="wrong")
            raise NotAuthenticatedError("the token, or the name and password, are wrong")
        for key in keys:
            self._attempts.give_back(key)
        proof = self._proof(identity.name, identity.via) or ""
        _, value = self.sessions.begin(identity.name, identity.via, proof)
        await self._write(identity.name, "login", client, ok=True)
        age = int(self.sessions.seconds)
        return Login(identity, self._cookie(scope, value, age))

    async def logout(self, scope: Scope) -> tuple[bytes, bytes]:
        """End the session of a request, wherever its cookie still is; returns the header that
        takes it from this browser."""
        session: Session | None = scope.get(SESSION)
        if session is not None:
            await self.sessions.end(session)
            await self._write(session.name, "logout", client_of(scope), ok=True)
        return self._cookie(scope, "", 0)

    async def _check(self, name: str, password: str, token: str) -> Identity | None:
        if token:
            is_right = self.token is not None and same_secret(token, self.token)
            return _token_identity() if is_right else None
        return await self.users.check(name, password) if self.users else None

    def _bearer(self, value: str) -> Identity:
        if self.token is not None and same_secret(value, self.token):
            return _token_identity()
        if self.jwt is None:
            raise NotAuthenticatedError("the token was not accepted")
        return self.jwt.read(value)

    def _identity_of(self, session: Session) -> Identity | None:
        """Who a session is of, as they are now; None when their credentials have changed."""
        proof = self._proof(session.name, session.via)
        if proof is None or not same_secret(proof, session.proof):
            return None
        if session.via == TOKEN_NAME:
            return _token_identity()
        return self.users.identity(session.name)

    def _proof(self, name: str, via: str) -> str | None:
        secret = self.token if via == TOKEN_NAME else self.users.secret_of(name)
        return None if secret is None else self.sessions.proof_of(f"{via}:{name}:{secret}")

    def _cookie(self, scope: Scope, value: str, age: int) -> tuple[bytes, bytes]:
        path = str(scope.get("root_path", "")).rstrip("/") or "/"
        parts = [f"{COOKIE}={value}", f"Path={path}", f"Max-Age={age}", "HttpOnly", "SameSite=Lax"]
        if is_https(scope) or self.require_https:
            parts.append("Secure")
        return b"set-cookie", "; ".join(parts).encode("latin-1", "ignore")

    async def _write(
        self, actor: str, action: str, client: str, *, ok: bool, error: str | None = None
    ) -> None:
        if self.record is not None:
            await self.record(actor, action, f"from {client}", ok=ok, error=error)


def _token_identity() -> Identity:
    return Identity(TOKEN_NAME, Role.ADMIN, None, TOKEN_NAME)


def _check_provider(config: TaskiqFlowConfig) -> None:
    """Refuse to start without what is meant to log people in: a token would be made instead."""
    needs = {
        AuthKind.PASSWORD: ("security_users", bool(config.security_users)),
        AuthKind.API_KEY: ("api_keys", bool(config.api_keys)),
        AuthKind.JWT: ("jwt_secret", config.jwt_secret is not None),
    }
    name, is_there = needs.get(config.auth_provider, ("", True))
    if config.security_enabled and not is_there:
        kind = config.auth_provider.value
        raise SecurityOptionError("auth_provider", kind, f"needs {name} to be set as well")


def _secret(value: Any) -> str | None:
    return None if value is None else value.get_secret_value()


def _check_secret(name: str, secret: object, least: int) -> None:
    if secret is not None and not (isinstance(secret, str) and len(secret) >= least):
        rule = f"must be text of at least {least} characters"
        raise SecurityOptionError(name, "…", rule)
