"""Counts what a cell sends to servers: commands as Redis sees them, statements as drivers do."""

from __future__ import annotations

import socket
import sqlite3
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import asyncpg

_sent: Counter[str] = Counter()


def statements() -> int:
    """How many SQL statements this process has sent since counting began."""
    return _sent["statements"]


def count_statements() -> None:
    """Count the statements of every connection to SQLite or PostgreSQL from now on."""
    connect_sqlite, connect_postgres = sqlite3.connect, asyncpg.connect

    def to_sqlite(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect_sqlite(*arguments, **options)
        connection.set_trace_callback(_one_more)
        return connection

    async def to_postgres(*arguments: Any, **options: Any) -> Any:
        connection = await connect_postgres(*arguments, **options)
        connection.add_query_logger(_one_more)
        return connection

    sqlite3.connect, asyncpg.connect = to_sqlite, to_postgres


def _one_more(_statement: object) -> None:
    _sent["statements"] += 1


class RedisCommands:
    """Counts the commands about one namespace that clients send while the ``with`` block runs.

    Asked of the server by MONITOR. It slows the server down, so nothing is timed meanwhile. What
    a script does inside the server is not sent by anybody, and not counted.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self._url = urlsplit(url)
        self._namespace = namespace.encode()
        self.count = 0
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        address = (self._url.hostname or "localhost", self._url.port or 6379)
        self._socket = socket.create_connection(address, timeout=10)
        if self._url.password:
            login = f"AUTH {self._url.username or 'default'} {self._url.password}\r\n"
            self._socket.sendall(login.encode())
        self._socket.sendall(b"MONITOR\r\n")
        self._answers = self._socket.makefile("rb")
        for _ in range(2 if self._url.password else 1):
            answer = self._answers.readline()
            if not answer.startswith(b"+OK"):
                raise ConnectionError(answer.decode())
        self._socket.settimeout(None)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.shutdown(socket.SHUT_RD)
        self._reader.join()
        self._socket.close()

    def _read(self) -> None:
        for line in self._answers:
            # `time [database client] "command" …`, with `lua` for a client inside a script.
            client = line.split(b" ", 3)[2]
            self.count += client != b"lua]" and self._namespace in line
