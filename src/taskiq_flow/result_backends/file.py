"""A result backend of one JSON file per result, shared by the processes of one machine."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any, TypeVar

from taskiq_flow.result_backends.stored import Kind, StoredResultBackend

T = TypeVar("T")

LONGEST_NAME = 150
"""Characters of a file name that an id may take; file systems take 255 bytes."""

SWEEP_SECONDS = 600.0
"""So often a process that writes looks for what has expired."""

_OURS = re.compile(r"(?:(?:[a-z0-9_-]|%[0-9a-f]{2})*|~[0-9a-f]{64})\.(?:result|progress)\.json")
_HALF_WRITTEN = ".taskiq-flow-"


class FileResultBackend(StoredResultBackend[T]):
    """Keeps results in a directory, which it makes; other options as of `StoredResultBackend`.

    Ids are data: whatever is in one, its files lie in this directory and are no other id's. Files
    are written whole or not at all, readable by this user only, and removed once they have
    expired, by any process that writes here. Files of other names are left alone.
    """

    def __init__(self, storage_dir: str | os.PathLike[str] = "./task_results", **options: Any):
        super().__init__(**options)
        self.storage_dir = Path(storage_dir)
        self.storage_dir.mkdir(parents=True, exist_ok=True)
        self._swept_at = 0.0

    async def delete_result(self, task_id: str) -> None:
        for kind in Kind:
            await asyncio.to_thread(self._path(kind, task_id).unlink, missing_ok=True)

    async def _write(self, kind: Kind, task_id: str, data: bytes) -> None:
        await asyncio.to_thread(self._replace, self._path(kind, task_id), data)
        now = time.time()
        if now - self._swept_at > SWEEP_SECONDS:
            self._swept_at = now
            await asyncio.to_thread(self._sweep, now)

    async def _read(self, kind: Kind, task_id: str) -> bytes | None:
        path = self._path(kind, task_id)
        return await asyncio.to_thread(lambda: path.read_bytes() if self._is_there(path) else None)

    async def _has_result(self, task_id: str) -> bool:
        return await asyncio.to_thread(self._is_there, self._path(Kind.RESULT, task_id))

    def _path(self, kind: Kind, task_id: str) -> Path:
        return self.storage_dir / f"{_escaped(task_id)}.{kind}.json"

    def _replace(self, path: Path, data: bytes) -> None:
        handle, half = tempfile.mkstemp(prefix=_HALF_WRITTEN, dir=self.storage_dir)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(handle)  # else a power cut could leave the new name without its content
            os.replace(half, path)
        except BaseException:
            Path(half).unlink(missing_ok=True)
            raise

    def _is_there(self, path: Path) -> bool:
        try:
            return not self._is_old(path.stat().st_mtime, time.time())
        except FileNotFoundError:
            return False

    def _is_old(self, written_at: float, now: float) -> bool:
        return self.ttl_seconds is not None and now - written_at >= self.ttl_seconds

    def _sweep(self, now: float) -> None:
        with os.scandir(self.storage_dir) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process was quicker
                    if self._is_waste(entry, now):
                        os.unlink(entry.path)

    def _is_waste(self, entry: os.DirEntry[str], now: float) -> bool:
        written_at = entry.stat(follow_symlinks=False).st_mtime
        if entry.name.startswith(_HALF_WRITTEN):
            return now - written_at > SWEEP_SECONDS  # who wrote it has died
        return _OURS.fullmatch(entry.name) is not None and self._is_old(written_at, now)


def _escaped(task_id: str) -> str:
    """A file name of an id: no two ids share one, also where case makes no difference."""
    data = task_id.encode("utf-8", "surrogatepass")
    name = "".join(chr(b) if chr(b) in _PLAIN else f"%{b:02x}" for b in data)
    return name if len(name) <= LONGEST_NAME else f"~{hashlib.sha256(data).hexdigest()}"


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
