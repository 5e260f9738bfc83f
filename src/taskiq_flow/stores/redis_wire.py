"""One connection to Redis on which all calls of an event loop's tick travel in one write."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

from taskiq_flow.exceptions import MissingExtraError, StoreUnavailableError

try:
    import hiredis
    from redis.asyncio.connection import AbstractConnection, ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError, RedisError, ResponseError
except ImportError as error:
    package = (error.name or "redis").partition(".")[0]
    raise MissingExtraError("The Redis run store", "redis", package) from error

logger = logging.getLogger(__name__)

pack: Callable[[tuple[bytes | str | float, ...]], bytes] = cast(Any, hiredis).pack_command

STREAMS = ("_writer", "_reader")
"""Where redis-py (5 to 8) keeps what it reads from; it has no public way to them."""

PASSING = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY")
"""Errors of a server that starts, fails over or is busy: worth another try for a moment."""

REFUSING = (
    *PASSING, "OOM", "MISCONF", "NOREPLICAS", "NOAUTH", "WRONGPASS", "NOPERM", "MOVED", "ASK",
    "CROSSSLOT",
)  # fmt: skip
"""Errors by which a server says that it takes no writes, or none of ours; nothing was changed."""

UNKNOWN = "unauthenticated"
"""In the error for a long command of somebody who has not logged in, which Redis does not read."""


class ReplyError(Exception):
    """The server answered with an error that is about the command."""


class _Request:
    """A command that waits for its answer."""

    __slots__ = ("answer", "data", "is_sent", "since")

    def __init__(self, data: bytes, answer: asyncio.Future[Any]) -> None:
        self.data, self.answer, self.since = data, answer, time.monotonic()
        self.is_sent = False


class RedisWire(asyncio.Protocol):
    """Sends commands and matches the answers in order.

    What was sent when a connection broke is sent again: a caller must only use commands that
    may be repeated. A server from which nothing comes for ``timeout_seconds``, or which cannot
    be reached for ``retry_seconds``, makes the waiting calls fail with `StoreUnavailableError`.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 5.0,
        retry_seconds: float = 2.0,
        **client_options: Any,
    ) -> None:
        self.shown_url = without_password(url)
        self._timeout, self._patience = timeout_seconds, retry_seconds
        self._pool = _pool(url, timeout_seconds, client_options)
        self._forget(None)

    def _forget(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._stream: asyncio.StreamWriter | None = None
        self._reader = hiredis.Reader(replyError=ReplyError)
        self._unsent: deque[_Request] = deque()
        self._sent: deque[_Request] = deque()
        self._connecting: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._flushing = False
        self._heard_at = 0.0

    async def call(self, *command: bytes | str | float) -> Any:
        """Send a command and return its answer: bytes, int, None or a list of them.

        Raises:
            StoreUnavailableError: No answer in time, or the server refuses to work.
            ReplyError: Any other error that the server answers with.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._forget(loop)
        request = _Request(pack(command), loop.create_future())
        self._unsent.append(request)
        self._send_soon()
        return await request.answer

    async def close(self) -> None:
        """Disconnect; a later call connects again."""
        connecting = self._connecting
        if connecting is not None and self._loop is asyncio.get_running_loop():
            connecting.cancel()
            await asyncio.wait([connecting])
        if self._transport is not None:
            self._transport.abort()
        if self._watch is not None:
            self._watch.cancel()
        self._fail([*self._sent, *self._unsent], "the store was closed")
        self._forget(None)

    def _send_soon(self) -> None:
        assert self._loop is not None
        if self._transport is None:
            if self._connecting is None:
                self._connecting = self._loop.create_task(self._connect())
                self._connecting.add_done_callback(self._tried)
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is None or self._loop is None or not self._unsent:
            return
        data = b"".join([request.data for request in self._unsent])
        for request in self._unsent:
            request.is_sent = True
        self._sent.extend(self._unsent)
        self._unsent.clear()
        self._transport.write(data)
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._look)

    def _look(self) -> None:
        """Break a connection that is silent though calls wait; a long queue is not silence."""
        self._watch = None
        if self._loop is None or not self._sent:
            return
        wait = max(self._sent[0].since, self._heard_at) + self._timeout - time.monotonic()
        if wait > 0:
            self._watch = self._loop.call_later(wait, self._look)
            return
        self._fail_old(self._patience, f"no answer for {self._timeout:g} s")
        if self._transport is not None:
            self._transport.abort()

    # -- what the transport reports

    def data_received(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            request = self._sent.popleft()
            if request.answer.done():
                continue
            if isinstance(reply, ReplyError):
                self._refused(request, reply)
            else:
                request.answer.set_result(reply)

    def _refused(self, request: _Request, error: ReplyError) -> None:
        assert self._loop is not None
        kind = str(error).partition(" ")[0]
        if kind in PASSING and time.monotonic() - request.since < self._patience:
            self._loop.call_later(0.1, self._again, request)
            if kind == "READONLY" and self._transport is not None:
                self._transport.abort()  # the address may lead to the new master by now
        elif UNKNOWN in str(error):
            why = f"it asks for a password: {error}"
            request.answer.set_exception(StoreUnavailableError(self.shown_url, why))
        elif kind in REFUSING:
            request.answer.set_exception(StoreUnavailableError(self.shown_url, str(error)))
        else:
            request.answer.set_exception(error)

    def _again(self, request: _Request) -> None:
        if self._loop is not None and not request.answer.done():
            self._unsent.append(request)
            self._send_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        logger.debug("Lost the connection to %s: %s", self.shown_url, exc)
        self._transport = self._stream = None
        self._reader = hiredis.Reader(replyError=ReplyError)
        waiting = [request for request in self._sent if not request.answer.done()]
        self._sent.clear()
        self._unsent.extendleft(reversed(waiting))
        if self._unsent:
            self._send_soon()

    # -- connecting

    async def _connect(self) -> None:
        pause = 0.02
        try:
            while self._unsent:
                try:
                    self._stream = await open_stream(self._pool, self, self._timeout)
                except (RedisError, OSError, TimeoutError) as error:
                    final = isinstance(error, AuthenticationError | ResponseError)
                    why = str(error) or "no answer to the handshake"
                    self._fail_old(0.0 if final else self._patience, why)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.5)
                else:
                    self._transport = cast(asyncio.Transport, self._stream.transport)
                    self._flush()
                    return
        finally:
            self._connecting = None

    def _tried(self, connecting: asyncio.Task[None]) -> None:
        """Hand an error that no further try would mend, such as a wrong option, to the callers."""
        error = None if connecting.cancelled() else connecting.exception()
        if error is not None:
            for request in self._unsent:
                if not request.answer.done():
                    request.answer.set_exception(error)
            self._unsent.clear()

    def _fail_old(self, seconds: float, why: str) -> None:
        limit = time.monotonic() - seconds
        self._fail([r for r in (*self._sent, *self._unsent) if r.since <= limit], why)
        self._unsent = deque(r for r in self._unsent if not r.answer.done())

    def _fail(self, requests: list[_Request], why: str) -> None:
        for request in requests:
            # A loop that has been closed takes no more results; nobody waits there.
            if not request.answer.done() and not request.answer.get_loop().is_closed():
                error = StoreUnavailableError(self.shown_url, why, is_asked=request.is_sent)
                request.answer.set_exception(error)


class RedisEar(asyncio.Protocol):
    """Hears the messages of one channel on a connection of its own, and reconnects it."""

    def __init__(
        self,
        url: str,
        channel: str,
        heard: Callable[[bytes], None],
        *,
        timeout_seconds: float = 5.0,
        retry_seconds: float = 2.0,
        **client_options: Any,
    ) -> None:
        self._pool = _pool(url, timeout_seconds, client_options)
        self._channel, self._heard, self._url = channel, heard, without_password(url)
        self._timeout, self._patience = timeout_seconds, retry_seconds
        self._reader = hiredis.Reader()
        self._lost = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._stream: asyncio.StreamWriter | None = None
        self._task = asyncio.get_running_loop().create_task(self._listen())

    async def ready(self) -> None:
        """Wait until messages are heard, as long as an absent server is waited for."""
        try:
            async with asyncio.timeout(self._patience):
                await self._subscribed.wait()
        except TimeoutError:
            raise StoreUnavailableError(self._url, "no answer to SUBSCRIBE") from None

    async def close(self) -> None:
        if self.is_of_this_loop:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def is_of_this_loop(self) -> bool:
        return self._task.get_loop() is asyncio.get_running_loop()

    async def _listen(self) -> None:
        pause = 0.05
        while True:
            try:
                self._stream = await open_stream(self._pool, self, self._timeout)
                self._stream.transport.write(pack(("SUBSCRIBE", self._channel)))
                pause = 0.05
                await self._lost.wait()
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
            finally:
                if self._stream is not None:
                    self._stream.transport.abort()
                self._stream, self._reader = None, hiredis.Reader()
                self._lost.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (message := self._reader.gets()) is not False:
            if message[0] == b"subscribe":
                self._subscribed.set()
            elif message[0] == b"message":
                self._heard(message[2])

    def connection_lost(self, exc: Exception | None) -> None:
        logger.debug("Lost the subscription at %s: %s", self._url, exc)
        self._lost.set()


def without_password(url: str) -> str:
    """An address that may be shown in an error."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")).geturl()


def _pool(url: str, timeout_seconds: float, options: dict[str, Any]) -> ConnectionPool:
    """Let redis-py read the URL; its pool itself is never used."""
    defaults: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # one shape of answers with every server
    }
    if not url.startswith("unix:"):
        defaults["socket_keepalive"] = True
    make: Callable[..., ConnectionPool] = cast(Any, ConnectionPool).from_url
    return make(url, **(defaults | options))


async def open_stream(
    pool: ConnectionPool, protocol: asyncio.Protocol, timeout_seconds: float
) -> asyncio.StreamWriter:
    """Connect as redis-py does (TLS, sockets, login, database), then hand over the transport.

    Its own reading costs several times what the server needs for a command. The writer is to be
    kept as long as the transport is used: it closes it when it is collected.
    """
    connection: AbstractConnection = pool.make_connection()
    try:
        async with asyncio.timeout(timeout_seconds):
            await connection.connect()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    stream: asyncio.StreamWriter = getattr(connection, STREAMS[0])
    reader: asyncio.StreamReader = getattr(connection, STREAMS[1])
    for name in STREAMS:
        setattr(connection, name, None)  # or it would close what it no longer owns
    if reader.at_eof() or stream.transport.is_closing():
        stream.transport.abort()
        raise ConnectionResetError("closed right after the handshake")  # nobody would hear of it
    stream.transport.set_protocol(protocol)
    return stream
