"""What a SQLite file can complain of, and what to do about it."""

from __future__ import annotations

import sqlite3
from typing import Final

_FIXES: Final = {
    sqlite3.SQLITE_CANTOPEN: "see that its directory exists, and that this process may write there",
    sqlite3.SQLITE_READONLY: "let this process write to the file and to its directory",
    sqlite3.SQLITE_PERM: "let this process write to the file and to its directory",
    sqlite3.SQLITE_BUSY: "find the process that holds its lock (fuser names those that have it "
    "open), and let it end its transaction",
    sqlite3.SQLITE_FULL: "make room on its disk; what runs meanwhile is stored then",
    sqlite3.SQLITE_IOERR: "look after its disk, in the log of the system",
    sqlite3.SQLITE_NOTADB: "name another file: this one is not a SQLite database",
    sqlite3.SQLITE_CORRUPT: "restore it from a backup, or name another file",
}
_OTHERWISE: Final = "see that it is there, and that this process may write to it"


def fix_of(error: sqlite3.Error) -> str:
    """What to do about an error of the file, by its primary result code."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return _FIXES.get(code & 0xFF, _OTHERWISE)


def is_of_the_file(error: Exception) -> bool:
    """Whether the file or its connection is at fault, and not the operation."""
    return isinstance(error, sqlite3.OperationalError | sqlite3.InternalError) or (
        type(error) is sqlite3.DatabaseError  # a damaged file; its subclasses are other things
    )
