"""Stands before an ASGI app: nothing gets in without an identity, nothing changes by accident."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, quote

from taskiq_flow.exceptions import NotAllowedError, NotAuthenticatedError, TooManyAttemptsError
from taskiq_flow.security.identity import Identity, Role
from taskiq_flow.security.requests import (
    SAFE_METHODS,
    App,
    Message,
    Receive,
    Scope,
    Send,
    answer,
    header,
    is_https,
    query,
    redirect,
    refuse_socket,
    route_path,
    without_parameter,
)
from taskiq_flow.security.security import (
    CSRF_FIELD,
    CSRF_HEADER,
    IDENTITY,
    SECURITY,
    AuthProvider,
    Security,
)

FORM_BYTES = 1024 * 1024
"""A form is read before its handler sees it, to find its CSRF token; a longer one is refused."""

TOKEN_PARAMETER = "token"  # noqa: S105 - the name of a parameter
REFUSED_SOCKET = 4401
"""The code that a refused WebSocket is closed with, for servers that let it be seen."""


class SecurityMiddleware:
    """Asks who makes each request, and lets only those in who may.

    Paths in ``public`` (below the place where the app is mounted; ``/static/*`` for all below) need
    nobody, but state changes from other sites are refused there too. With ``login_path`` a browser
    that nobody is logged in with is sent there, and an address with ``?token=…`` logs it in.
    Everybody let in has at least the role ``least``; what needs more says so with `requires`.
    """

    def __init__(
        self,
        app: App,
        security: Security | None = None,
        *,
        auth_provider: AuthProvider | None = None,
        public: Iterable[str] = (),
        login_path: str | None = None,
        least: Role = Role.VIEWER,
    ) -> None:
        self.app, self.login_path, self.least = app, login_path, least
        self.security = security or Security(jwt=auth_provider)
        given = [*public, *([] if login_path is None else [login_path])]
        self._public = frozenset(path for path in given if not path.endswith("*"))
        self._public_below = tuple(path[:-1] for path in given if path.endswith("*"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.security.require_https and not is_https(scope):
            await answer(send, 403, "This is only served by https.")
            return
        scope[SECURITY] = self.security
        try:
            identity = await self.security.authenticate(scope)
        except NotAuthenticatedError as error:
            await answer(send, 401, str(error), headers={"www-authenticate": "Bearer"})
            return
        if identity is None:
            if await self._log_in_by_address(scope, send):
                return
            if not self._is_public(scope):
                await self._turn_away(scope, send)
                return
            identity = Identity("nobody", self.least, (), "nobody")
        else:
            scope[IDENTITY] = identity
            if not identity.role.allows(self.least):
                await answer(send, 403, f"This needs the role {self.least}.")
                return
        if scope["method"] not in SAFE_METHODS:
            try:
                if route_path(scope) == self.login_path:
                    # Whoever logs in anew needs no token of the session that they leave.
                    identity = replace(identity, is_session=False)
                token, receive = await self._csrf_token(scope, receive)
                self.security.check_state_change(scope, identity, token)
            except NotAllowedError as error:
                await answer(send, 403, str(error))
                return
        await self.app(scope, receive, send)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[SECURITY] = self.security
        try:
            if self.security.require_https and not is_https(scope):
                raise NotAllowedError("a client", "open this", "it is only served by wss")
            self.security.check_socket(scope)
            identity = await self.security.authenticate(scope)
        except (NotAuthenticatedError, NotAllowedError) as error:
            await refuse_socket(receive, send, REFUSED_SOCKET, str(error))
            return
        if identity is None or not identity.role.allows(self.least):
            await refuse_socket(receive, send, REFUSED_SOCKET, "This needs a login.")
            return
        scope[IDENTITY] = identity
        await self.app(scope, receive, send)

    async def _log_in_by_address(self, scope: Scope, send: Send) -> bool:
        """Take the token that stands in the address printed at the start, and hide it again."""
        token = query(scope).get(TOKEN_PARAMETER)
        if token is None or self.login_path is None or scope["method"] != "GET":
            return False
        try:
            login = await self.security.login(scope, token=token)
        except (NotAuthenticatedError, NotAllowedError):
            return False
        except TooManyAttemptsError as error:
            await answer(send, 429, str(error), headers=_retry_after(error))
            return True
        await redirect(send, without_parameter(scope, TOKEN_PARAMETER), [login.cookie])
        return True

    async def _turn_away(self, scope: Scope, send: Send) -> None:
        wants_page = "text/html" in (header(scope, "accept") or "")
        if self.login_path is None or not wants_page or scope["method"] != "GET":
            error = NotAuthenticatedError()
            await answer(send, 401, str(error), headers={"www-authenticate": "Bearer"})
            return
        root = str(scope.get("root_path", "")).rstrip("/")
        back = quote(without_parameter(scope, TOKEN_PARAMETER), safe="")
        await redirect(send, f"{root}{self.login_path}?next={back}", [])

    async def _csrf_token(self, scope: Scope, receive: Receive) -> tuple[str | None, Receive]:
        """The token of a page, from its header or its form; the form is left for its handler."""
        given = header(scope, CSRF_HEADER)
        kind = (header(scope, "content-type") or "").partition(";")[0].strip().lower()
        is_form = kind == "application/x-www-form-urlencoded"
        if given is not None or not is_form or not self.security.needs_csrf_token(scope):
            return given, receive
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > FORM_BYTES:
                raise NotAllowedError("a form", "be this long", f"{FORM_BYTES} bytes are the most")
            if message["type"] != "http.request" or not message.get("more_body"):
                break
        fields = parse_qs(bytes(body).decode("latin-1"), max_num_fields=1000)
        return next(iter(fields.get(CSRF_FIELD, ())), None), _again(bytes(body), receive)

    def _is_public(self, scope: Scope) -> bool:
        path = route_path(scope)
        return path in self._public or any(path.startswith(part) for part in self._public_below)


class HTTPSEnforcement:
    """Lets an app be reached by https and wss only: pages are sent on, all else is refused."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_https(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await refuse_socket(receive, send, REFUSED_SOCKET, "This is only served by wss.")
        elif scope["method"] in ("GET", "HEAD") and (host := header(scope, "host")):
            address = f"https://{host}{without_parameter(scope, '')}"
            await redirect(send, address, [])
        else:
            await answer(send, 403, "This is only served by https.")


def _retry_after(error: TooManyAttemptsError) -> dict[str, str]:
    return {"retry-after": f"{error.retry_after_seconds:.0f}"}


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read once more, and then what else comes."""
    is_told = False

    async def replay() -> Message:
        nonlocal is_told
        if is_told:
            return await receive()
        is_told = True
        told: dict[str, Any] = {"type": "http.request", "body": body, "more_body": False}
        return told

    return replay
