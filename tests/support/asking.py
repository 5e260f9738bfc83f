"""One request straight to an application, which hangs up when it has heard enough."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Scope


class Answer(NamedTuple):
    """What came before the line was cut."""

    status: int
    body: bytes


async def ask(
    app: ASGIApp,
    path: str,
    query: str = "",
    *,
    method: str = "GET",
    headers: Iterable[tuple[bytes, bytes]] = (),
    until: bytes = b"",
) -> Answer:
    """Ask, and leave a stream as soon as some of it has come that contains ``until``."""
    status, body, enough, is_sent = 0, b"", asyncio.Event(), False

    async def receive() -> Message:
        nonlocal is_sent
        if not is_sent:
            is_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")
        if body and until in body:
            enough.set()

    scope: Scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": method, "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": query.encode(), "headers": [(b"host", b"here"), *headers],
        "server": ("here", 80), "client": ("there", 1),
    }  # fmt: skip
    async with asyncio.timeout(20):
        await app(scope, receive, send)
    return Answer(status, body)
