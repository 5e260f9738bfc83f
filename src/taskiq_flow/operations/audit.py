"""Keeps who did what: a numbered entry for each action, in the same place as the runs."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from taskiq_flow.exceptions import OperationError, StorageUnavailableError
from taskiq_flow.operations.models import AuditEntry, AuditPage
from taskiq_flow.storage import BaseStorageAdapter

logger = logging.getLogger("taskiq_flow.audit")

HEAD = "newest"
PAGE_MOST = 500
TEXT_MOST = 500
NUMBER_TRIES = 200


@dataclass(slots=True)
class Audit:
    """The entries of one namespace, newest first; each lives ``keep_seconds``.

    Entries are numbered, so a page is read by its keys and nothing is searched.
    """

    storage: BaseStorageAdapter
    keep_seconds: float
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def add(self, entry: AuditEntry) -> None:
        """Write an entry, here and into the log; a storage that is away costs only the first.

        The action itself is done or refused by then, and is not undone.
        """
        logger.log(
            logging.INFO if entry.ok else logging.WARNING,
            "%s %s %s: %s%s",
            _line(entry.actor),
            entry.action,
            _line(entry.target),
            "done" if entry.ok else "refused",
            "" if entry.error is None else f" ({_line(entry.error)})",
        )
        try:
            number = await self._next_number()
            await self.storage.set(_key(number), _stored(entry), self.keep_seconds)
        except StorageUnavailableError as error:
            logger.error("The entry above is in this log only: %s", error)

    async def page(self, *, limit: int, cursor: str | None) -> AuditPage:
        """Entries before a cursor, newest first.

        Raises:
            OperationError: No page has given this cursor.
        """
        if cursor is not None and re.fullmatch(r"[0-9]{1,18}", shown := str(cursor)) is None:
            raise OperationError(f"{shown[:40]!r} is not the cursor of a page of the audit.")
        newest = await self._newest() if cursor is None else int(cursor) - 1
        count = max(1, min(limit, PAGE_MOST))
        numbers = range(newest, max(0, newest - count), -1)
        keys = [_key(number) for number in numbers]
        found = await self.storage.get_many(keys)
        entries = tuple(_entry(found[key]) for key in keys if key in found)
        last = numbers[-1] if numbers else 0
        # Where a whole page has expired, all before it has too.
        more = last > 1 and bool(entries)
        return AuditPage(entries, str(last) if more else None)

    async def close(self) -> None:
        await self.storage.close()

    async def _newest(self) -> int:
        return int(await self.storage.get(HEAD) or 0)

    async def _next_number(self) -> int:
        """Take the next number; others may take one at the same moment."""
        async with self._writing:
            for _ in range(NUMBER_TRIES):
                newest = await self._newest()
                if not newest:
                    await self.storage.add(HEAD, 0)
                if await self.storage.replace(HEAD, newest, newest + 1):
                    return newest + 1
                await asyncio.sleep(0)
        raise StorageUnavailableError("the audit", "its numbers are taken too quickly", "try again")


def audit_entry(
    actor: str,
    action: str,
    target: str,
    *,
    ok: bool,
    details: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> AuditEntry:
    """Make an entry of now."""
    return AuditEntry(datetime.now(UTC), actor, action, target, ok, dict(details or {}), error)


def _key(number: int) -> str:
    return f"entry:{number}"


def _stored(entry: AuditEntry) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat(),
        "actor": entry.actor[:TEXT_MOST],
        "action": entry.action,
        "target": entry.target[:TEXT_MOST],
        "ok": entry.ok,
        "details": json.loads(json.dumps(dict(entry.details), default=str)),
        "error": None if entry.error is None else entry.error[:TEXT_MOST],
    }


def _entry(stored: Mapping[str, Any]) -> AuditEntry:
    facts: dict[str, Any] = {**stored, "at": datetime.fromisoformat(stored["at"])}
    return AuditEntry(**facts)


def _line(text: str) -> str:
    """Text as one line of a log: an actor or a target cannot write lines of its own."""
    return str(text)[:TEXT_MOST].encode("unicode_escape", "backslashreplace").decode()
