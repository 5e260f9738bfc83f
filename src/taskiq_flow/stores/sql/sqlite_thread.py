"""Who uses SQLite's connection, and when: a thread of its own, or whoever cannot wait for that."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.stores.sql.gate import GateOptions
from taskiq_flow.stores.sql.sqlite_file import Job, SqliteFile

logger = logging.getLogger("taskiq_flow.stores")

MOST_AT_ONCE: Final = 200
"""Operations that share a transaction at the most, so that the first one is not kept waiting."""

LOOK_SECONDS: Final = 0.02
"""How soon a caller sees that whoever has the connection has done its operation as well."""

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
        self._forking: int | None = None
        self._users: set[object] = set()
        self._jobs: deque[list[Job]] = deque()
        self._bell: queue.SimpleQueue[bool] | None = None

    def hold_for_fork(self) -> None:
        """Close the file, and let nobody open it before the process has been forked.

        What SQLite knows of the locks of a process would be wrong in the child.
        """
        if self._holder != threading.get_ident() and self._turn.acquire(timeout=self._patience):
            self._forking = threading.get_ident()
            self._file.close()

    def go_on_after_fork(self) -> None:
        """Go on in the parent; the next operation opens the file again."""
        if self._forking == threading.get_ident():
            self._forking = None
            self._turn.release()

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
            StoreUnavailableError: Others have the connection for too long; it is not done then.
        """
        if self._holder == threading.get_ident():
            raise StoreUnavailableError(self._shown_url, _INTERRUPTED, _LATER)
        with self._lock:
            self._add([job])
        try:
            while not self._do_in_turn(job, self._patience):
                if self._withdraw(job):  # else somebody is at it right now, and will soon be done
                    why = f"no answer for {self._patience:g} s"
                    raise StoreUnavailableError(self._shown_url, why)
        except BaseException:
            self._withdraw(job)
            raise

    def _withdraw(self, job: Job) -> bool:
        with self._lock:
            waits = [job] in self._jobs
            if waits:
                self._jobs.remove([job])
            return waits

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
        """Do it when the connection is free, unless it is done before; False if it takes long."""
        if self._holder == threading.get_ident():
            return False
        until = time.monotonic() + patience_seconds
        while not job.is_done:
            left = max(0.0, until - time.monotonic())
            try:
                is_our_turn = self._turn.acquire(timeout=min(left, LOOK_SECONDS))
                while is_our_turn and not job.is_done:
                    self._do_next(job)
            finally:
                try:  # noqa: SIM105 - a signal may raise after any call, also of `suppress`
                    self._turn.release()
                except RuntimeError:
                    pass  # it was not ours
            if not left:
                break
        return job.is_done

    # -- in the thread

    def _serve(self, bell: queue.SimpleQueue[bool]) -> None:
        while bell.get():
            while self._jobs:
                try:
                    with self._turn:
                        self._do_next(None)
                except BaseException:
                    # Whoever asks later must find this thread alive.
                    logger.exception("Operations on %s were broken off", self._shown_url)

    # -- by whoever has the turn

    def _do_next(self, own: Job | None) -> None:
        """Do what waits, as much as goes into one transaction; one may be the caller's own."""
        self._holder = threading.get_ident()
        batch: list[Job] = []
        todo: list[Job] = []
        try:
            with self._lock:
                while self._jobs and len(batch) < MOST_AT_ONCE:
                    batch += [job for job in self._jobs[0] if not job.is_done]
                    self._jobs.popleft()  # not before: a signal may raise after any call
            todo = [job for job in batch if job.work is not None]
            if todo:
                self._file.do(todo)
            if len(todo) < len(batch):
                self._let_leave([job.user for job in batch if job.work is None])
            _deliver(batch)
            self._file.look_after_log()
        except BaseException as error:
            if self._file.has_stored(todo):
                _deliver(todo)
            if own is None:
                _fail(batch, error)
            else:
                self._give_back(batch, own)
            raise
        finally:
            todo.clear()  # the file has it still
            self._holder = None

    def _give_back(self, batch: list[Job], own: Job) -> None:
        """A signal came, in the thread of a caller: the others go on without it."""
        if own.work is not None:
            own.is_done = True  # it is broken off: nobody does it later
        with self._lock:
            waiting = {id(job) for jobs in self._jobs for job in jobs}
            left = [job for job in batch if not job.is_done and id(job) not in waiting]
            self._jobs.extendleft([job] for job in reversed(left))
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


def _fail(batch: list[Job], error: BaseException) -> None:
    failed = [job for job in batch if not job.is_done]
    for job in failed:
        job.error = job.error or RuntimeError(f"an operation ended in {error!r}")
    _deliver(failed)


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


def _for_all(do: Callable[[SqliteThread], None]) -> Callable[[], None]:
    def do_it() -> None:
        for thread in tuple(_threads):
            do(thread)

    return do_it


os.register_at_fork(
    before=_for_all(SqliteThread.hold_for_fork),
    after_in_parent=_for_all(SqliteThread.go_on_after_fork),
    after_in_child=_for_all(SqliteThread.begin_in_child),
)
