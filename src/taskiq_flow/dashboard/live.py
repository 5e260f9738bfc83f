"""Tells a page in a few bytes which of its parts changed; the page fetches those again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from starlette.responses import StreamingResponse

from taskiq_flow.exceptions import OperationError, StoreError
from taskiq_flow.metrics import MetricsCollector
from taskiq_flow.operations import Change, Operations

PING_SECONDS = 15.0
RETRY_MS = 2_000
POSITION_MOST = 900
"""Characters of a position that is sent along, so that a message has no more than 1 KB."""

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def live_answer(operations: Operations, run_id: str | None, last: str | None) -> StreamingResponse:
    """Stream what changes, of one run or of all; ``last`` is how far whoever asks knows it."""
    return StreamingResponse(
        _messages(operations, run_id, last), media_type="text/event-stream", headers=_HEADERS
    )


async def _messages(
    operations: Operations, run_id: str | None, last: str | None
) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY_MS}\n\n".encode()
    try:
        async with aclosing(_watch(operations, run_id, last)) as changes:
            async for change in changes:
                yield message_of(change)
                MetricsCollector().sse_events.add()
        # The run has ended: what hangs on it (children, retries) is told with all others.
        async with aclosing(_watch(operations, None, None)) as changes:
            async for change in changes:
                is_about_it = run_id is None or run_id in change.run_ids
                yield message_of(change if is_about_it else Change(change.position, _NONE, _NONE))
    except StoreError:
        yield b"event: away\ndata: store\n\n"


_NONE: frozenset[str] = frozenset()


def _watch(operations: Operations, run_id: str | None, last: str | None) -> AsyncGenerator[Change]:
    """The changes behind a position; one that nobody knows any more counts as none."""

    async def watched() -> AsyncGenerator[Change]:
        try:
            async with aclosing(
                operations.watch(run_id, after=last or None, heartbeat_seconds=PING_SECONDS)
            ) as changes:
                async for change in changes:
                    yield change
        except OperationError:
            if last is None:
                raise
            async with aclosing(
                operations.watch(run_id, heartbeat_seconds=PING_SECONDS)
            ) as changes:
                async for change in changes:
                    yield change

    return watched()


def message_of(change: Change) -> bytes:
    """A change as a message: the regions by name, and the position to go on from."""
    if not change.regions:
        return b": nothing new\n\n"
    words = " ".join(sorted(change.regions))
    # That of PostgreSQL names all transactions that were open; a browser keeps the one before, and
    # one that was interrupted is then told again what it had heard.
    position = f"id: {change.position}\n" if len(change.position) <= POSITION_MOST else ""
    return f"{position}event: changed\ndata: {words}\n\n".encode()
