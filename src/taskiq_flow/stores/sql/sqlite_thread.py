"""Who uses SQLite's connection, and when: a thread of its own, or whoever cannot wait for that."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
from collections import defaultdict, deque
from contextlib import suppress
from typing import Final
from weakref import WeakSet

from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.stores.sql.gate import GateOptions
from taskiq_flow.stores.sql.sqlite_file import Job, SqliteFile

logger = logging.getLogger("taskiq_flow.stores")

MOST_AT_ONCE: Final = 200
"""Operations that share a transaction at the most, so that the first one is not kept waiting."""

_INTERRUPTED: Final = "this thread is in the middle of a transaction, where it was interrupted"
_LATER: Final = "let a handler of signals or of log lines leave that to another thread, or to later"


class SqliteThread:
    """The thread and the connection that a store has with its twins, in whichever event loop.

    There is one and not one for each twin, because what another connection writes makes it forget
    the runs that it keeps: the renewals of leases, once a second, would be enough.

    Who has no event loop that could wait does its operation in its own thread, together with what
    waits before it: to hand it over and back takes several times as long as to do it.
    """

    def __init__(self, path: str, options: GateOptions, *, synchronous: str) -> None:
        self._shown_url, self._patience = options.shown_url, options.timeout_seconds
        self._file = SqliteFile(path, options, synchronous=synchronous)
        self._begin()
        _threads.add(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may ask where this thread holds it
        self._turn = threading.RLock()
        """Held by who takes jobs and uses the connection, so that all is done in order."""
        self._holder: int | None = None
        self._users: set[object] = set()
        self._jobs: deque[list[Job]] = deque()
        self._bell: queue.SimpleQueue[bool] | None = None

    def begin_in_child(self) -> None:
        """Begin anew: this process was forked, and threads and locks are its parent's."""
        self._file.leave_to_parent()
        self._begin()

    def put(self, jobs: list[Job]) -> None:
        """Have these done, in order; whoever comes first has the thread begun."""
        with self._lock:
            self._add(jobs)
            self._ring()

    def do(self, job: Job) -> None:
        """Do this one in the caller's thread, after what waits already.

        Raises:
            StoreUnavailableError: Others have the connection for too long; it is not done then,
                unless they are at it right now.
        """
        if self._holder == threading.get_ident():
            raise StoreUnavailableError(self._shown_url, _INTERRUPTED, _LATER)
        with self._lock:
            self._add([job])
        try:
            if not self._do_in_turn(job, self._patience):
                raise StoreUnavailableError(self._shown_url, f"no answer for {self._patience:g} s")
        except BaseException:
            with suppress(ValueError):  # somebody else is at it
                self._jobs.remove([job])
            raise

    def leave(self, user: object) -> None:
        """Use it no more; whoever has the connection now is not waited for."""
        job = Job(None, False, None, user)
        with self._lock:
            self._add([job])
        if not self._do_in_turn(job, 0.0):
            with self._lock:
                self._ring()

    def _add(self, jobs: list[Job]) -> None:
        self._users.add(jobs[0].user)
        self._jobs.append(jobs)

    def _ring(self) -> None:
        if self._bell is None:
            self._bell = queue.SimpleQueue()
            # A daemon: what nobody was told is done may end with the process.
            threading.Thread(
                target=self._serve, args=(self._bell,), name="taskiq-flow-sqlite", daemon=True
            ).start()
        self._bell.put(True)

    def _do_in_turn(self, job: Job, patience_seconds: float) -> bool:
        """Do it when the connection is free; False when that takes too long."""
        if self._holder == threading.get_ident():
            return False
        try:
            is_our_turn = self._turn.acquire(timeout=patience_seconds)
            while is_our_turn and not job.is_done:
                self._do_next()
        finally:
            try:  # noqa: SIM105 - a signal may raise after any call, also of `suppress`
                self._turn.release()
            except RuntimeError:
                pass  # it was not ours
        return is_our_turn

    # -- in the thread

    def _serve(self, bell: queue.SimpleQueue[bool]) -> None:
        while bell.get():
            while self._jobs:
                with self._turn:
                    self._do_next()

    # -- by whoever has the turn

    def _do_next(self) -> None:
        """Do what waits, as much as goes into one transaction."""
        self._holder = threading.get_ident()
        batch: list[Job] = []
        try:
            while self._jobs and len(batch) < MOST_AT_ONCE:
                batch += self._jobs[0]
                self._jobs.popleft()  # not before: a signal may raise after any call
            todo = [job for job in batch if job.work is not None]
            if todo:
                self._file.do(todo)
            if len(todo) < len(batch):
                self._let_leave([job.user for job in batch if job.work is None])
            _deliver(batch)
        except BaseException:  # a signal, in the thread of a caller: the others go on without it
            self._give_back(batch)
            raise
        finally:
            self._holder = None

    def _give_back(self, batch: list[Job]) -> None:
        with self._lock:
            self._jobs.extendleft([job] for job in reversed(batch) if not job.is_done)
            if self._bell is not None:
                self._bell.put(True)

    def _let_leave(self, users: list[object]) -> None:
        """The last one has the file closed, and ends the thread."""
        with self._lock:
            self._users.difference_update(users)
            if not self._users and not self._jobs:
                self._file.close()
                if self._bell is not None:
                    self._bell.put(False)
                    self._bell = None


def _deliver(batch: list[Job]) -> None:
    """Tell each event loop, in one go, what became of its operations."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = defaultdict(list)
    for job in batch:
        if job.future is not None:
            by_loop[job.future.get_loop()].append(job)
    for loop, jobs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, jobs)
        except RuntimeError:
            logger.debug("An event loop has ended before %d of its operations", len(jobs))
    for job in batch:
        job.is_done = True


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future is None or job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)


_threads: Final[WeakSet[SqliteThread]] = WeakSet()


def _begin_in_child() -> None:
    for thread in _threads:
        thread.begin_in_child()


os.register_at_fork(after_in_child=_begin_in_child)
