"""Reads from an ASGI scope what matters for safety, and answers without a framework."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def header(scope: Scope, name: str) -> str | None:
    """A header of a request, the last one of several; None where there is none."""
    wanted = name.lower().encode()
    found: str | None = None
    for key, value in scope.get("headers", ()):
        if key.lower() == wanted:
            found = value.decode("latin-1")
    return found


def cookie(scope: Scope, name: str) -> str | None:
    """A cookie of a request."""
    text = header(scope, "cookie")
    if text is None or len(text) > 16_384:
        return None
    try:
        found = SimpleCookie(text).get(name)
    except CookieError:
        return None
    return None if found is None else found.value


def query(scope: Scope) -> dict[str, str]:
    """The parameters of the address."""
    raw: bytes = scope.get("query_string", b"")
    return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=1000))


def route_path(scope: Scope) -> str:
    """The path below the place where an app is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        return path[len(root) :] or "/"
    return path


def client_of(scope: Scope) -> str:
    """The address that a request came from; behind a proxy the server has to be told of it."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def is_https(scope: Scope) -> bool:
    return scope.get("scheme") in ("https", "wss")


def is_same_origin(scope: Scope, allowed: frozenset[str]) -> bool | None:
    """Whether a browser asks on behalf of a page of this very place; None where nobody says.

    The scheme is left out: a proxy may have taken TLS away.
    """
    origin = header(scope, "origin")
    if origin is not None:
        if origin.rstrip("/").lower() in allowed:
            return True
        parts = urlsplit(origin)
        host = header(scope, "host")
        if parts.scheme not in ("http", "https") or host is None:
            return False
        return _place(parts.netloc, parts.scheme) == _place(host, parts.scheme)
    site = header(scope, "sec-fetch-site")
    return None if site is None else site in ("same-origin", "none")


def without_parameter(scope: Scope, name: str) -> str:
    """The address of a request, relative to its host, without one parameter."""
    rest = urlencode([(key, value) for key, value in query(scope).items() if key != name])
    path = "/" + str(scope["path"]).lstrip("/\\")  # never "//host"
    return f"{path}?{rest}" if rest else path


async def answer(
    send: Send,
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with JSON, as FastAPI does for errors."""
    body = json.dumps({"detail": detail}).encode()
    given = {"content-type": "application/json", "cache-control": "no-store", **(headers or {})}
    raw = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in given.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def redirect(send: Send, address: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Send a browser on to a place of this host."""
    raw = [(b"location", address.encode("ascii", "ignore")), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 303, "headers": raw + headers})
    await send({"type": "http.response.body", "body": b""})


async def refuse_socket(receive: Receive, send: Send, code: int, reason: str) -> None:
    """Refuse a WebSocket before it is open; servers answer 403 then."""
    await receive()
    await send({"type": "websocket.close", "code": code, "reason": reason[:100]})


def _place(netloc: str, scheme: str) -> tuple[str, int]:
    parts = urlsplit(f"//{netloc}")
    try:
        return (parts.hostname or "").lower(), parts.port or _PORTS[scheme]
    except ValueError:
        return "", 0
