"""Brings the log of writes of an SQLite file into the file, beside whoever writes."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from typing import Final
from urllib.parse import quote

from taskiq_flow.stores.sql.sqlite_faults import fix_of

logger = logging.getLogger("taskiq_flow.stores")

LOG_BYTES: Final = 16_000_000
"""The log is brought into the file each time that it has grown by so much.

By then most pages in it were written several times, and go there once.
"""

MOST_LOG_PAGES: Final = 16_000
"""Whoever writes brings a log of so many pages (64 MB) into the file, and others wait for that.

A log begins anew when all of it is in the file, which is never so while somebody writes all the
time. By then there is little left to be brought there.
"""


class Checkpoints:
    """The checkpoints of one file: each is a thread with a connection of its own.

    It waits for the disk, while whoever writes goes on. Used by one thread at a time.
    """

    def __init__(self, shown_url: str, *, synchronous: str) -> None:
        self._shown_url, self._synchronous = shown_url, synchronous
        self._path = ""
        self._seen = 0
        self._thread: threading.Thread | None = None

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Learn from a new connection where the file is, and let its log be as long as it says."""
        connection.text_factory = os.fsdecode  # the name of a directory may be no UTF-8
        self._path = connection.execute("PRAGMA database_list").fetchone()[2]
        connection.text_factory = str
        connection.execute(f"PRAGMA wal_autocheckpoint = {MOST_LOG_PAGES}")
        connection.execute("PRAGMA journal_size_limit = 0")

    def look(self) -> None:
        """Begin a checkpoint if the log has grown enough; called when something was written."""
        try:
            size = os.stat(f"{self._path}-wal").st_size
        except OSError:
            return
        if size < self._seen:
            self._seen = 0  # it was begun anew
        is_going = self._thread is not None and self._thread.is_alive()
        if size - self._seen < LOG_BYTES or is_going:
            return
        self._seen = size
        self._thread = threading.Thread(
            target=self._bring, args=(self._path,), name="taskiq-flow-checkpoint", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # this process ends, or has too many: whoever writes will do it
            self._thread = None

    def wait(self, seconds: float) -> None:
        """Wait for the end of a checkpoint, at most so long."""
        # A signal may have come before it was begun.
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(seconds)

    def _bring(self, path: str) -> None:
        try:
            # Were it made anew where it was moved away, SQLite would delete its log.
            uri = f"file:{quote(os.fsencode(path), safe='')}?mode=rw"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            try:
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            message = "The log of %s was not brought into its file, it is tried again: %s; %s"
            logger.warning(message, self._shown_url, error, fix_of(error))
