"""Where sync tasks run: threads, and processes that end when the application does."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

from fastapi_taskflow.process import Work, Worked, work_off
from taskiq_flow.engine.host import process_pool

logger = logging.getLogger("fastapi_taskflow")

THREADS = 40
"""Threads of sync tasks unless ``max_sync_threads`` says otherwise: as many as FastAPI has."""


@dataclass(slots=True)
class Pools:
    """The threads and processes of one manager in one event loop; made when first used."""

    max_threads: int | None
    max_processes: int | None
    _threads: ThreadPoolExecutor | None = None
    _processes: ProcessPoolExecutor | None = None
    _in_threads: set[Future[Any]] = field(default_factory=set["Future[Any]"])

    async def in_thread(self, call: Callable[[], Any], begins: Callable[[], None]) -> Any:
        """Call a function in a thread, with the caller's context variables.

        ``begins`` is called there right before it; or here, if no thread is free: who waits for
        the one does not wait for the other. Cancelling the wait does not stop the thread.
        """
        most = self.max_threads or THREADS
        if self._threads is None:
            self._threads = ThreadPoolExecutor(most, thread_name_prefix="background-task")
        context, work = contextvars.copy_context(), call
        if len(self._in_threads) < most:
            work = functools.partial(_begin, begins, call)
        else:
            begins()
        future = self._threads.submit(context.run, work)
        self._in_threads.add(future)
        future.add_done_callback(self._in_threads.discard)
        return await asyncio.wrap_future(future)

    async def in_process(self, work: Work) -> Worked:
        """Run a function in a process. One that dies takes its task with it, and is replaced."""
        if self._processes is None:
            self._processes = process_pool(self.max_processes)
        pool = self._processes
        try:
            return await asyncio.wrap_future(pool.submit(work_off, work))
        except BrokenProcessPool:
            if self._processes is pool:
                self._processes = None
                pool.shutdown(wait=False)
            raise

    async def close(self, process_seconds: float) -> None:
        """Wait so long for processes, then kill them; threads cannot be ended, and are left."""
        threads, self._threads = self._threads, None
        self._in_threads = set()
        processes, self._processes = self._processes, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
        if processes is not None:
            await _end(processes, process_seconds)


def _begin(begins: Callable[[], None], call: Callable[[], Any]) -> Any:
    begins()
    return call()


async def _end(pool: ProcessPoolExecutor, seconds: float) -> None:
    # Taken before the shutdown, which forgets them; there is no public way before Python 3.14.
    processes: dict[int, BaseProcess] = getattr(pool, "_processes", None) or {}
    workers = list(processes.values())
    pool.shutdown(wait=False, cancel_futures=True)
    await asyncio.to_thread(_join, workers, seconds)
    for worker in workers:
        if worker.is_alive():
            logger.warning("Process %s did not end in %.1f s and is killed.", worker.pid, seconds)
            worker.kill()


def _join(workers: list[BaseProcess], seconds: float) -> None:
    until = time.monotonic() + seconds
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
