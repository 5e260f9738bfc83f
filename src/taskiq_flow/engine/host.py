"""What the engine needs to know of its host: Taskiq's versions, brokers and their pitfalls."""

from __future__ import annotations

import gc
import inspect
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.process import BaseProcess
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

from taskiq import AsyncBroker, InMemoryBroker
from taskiq.receiver import Receiver

from taskiq_flow.exceptions import ConfigurationError, NotABrokerError, UnsupportedHostError

logger = logging.getLogger("taskiq_flow.engine")

P = ParamSpec("P")
T = TypeVar("T")

local_store = ["memory://"]
"""Where runs of an in-memory broker live if nothing says so; the last one holds. The command line
adds a file, so that a run that it started can be gone on with."""


@cache
def own_version() -> str:
    """The installed version; none in a checkout that is not installed."""
    try:
        return version("taskiq-flow")
    except PackageNotFoundError:
        return ""


@cache
def settle_memory() -> None:
    """Keep the garbage collector away from what a worker has loaded; once in a process.

    Modules and classes stay until its end. Looking through them took 50 to 80 ms, in the middle of
    whatever step was running.
    """
    gc.collect()
    gc.freeze()


def check_broker(broker: object) -> None:
    """Refuse what no run can be started on.

    Raises:
        NotABrokerError: It is no broker of Taskiq.
    """
    if not isinstance(broker, AsyncBroker):
        raise NotABrokerError(broker)


def check_host() -> None:
    """Refuse a Taskiq that lacks what the engine leans on.

    Raises:
        UnsupportedHostError: With what is missing, and which version has it.
    """
    parameters = inspect.signature(Receiver.run_task).parameters
    if not {"target", "message"} <= set(parameters):
        raise UnsupportedHostError(
            "Receiver.run_task(target, message) is missing", "Install taskiq>=0.13,<0.14."
        )
    if not hasattr(AsyncBroker, "register_task"):
        raise UnsupportedHostError(
            "AsyncBroker.register_task is missing", "Install taskiq>=0.13,<0.14."
        )


def connection_facts(broker: AsyncBroker) -> Mapping[str, Any]:
    """How a Redis broker connects; empty for every other broker."""
    pool = getattr(broker, "connection_pool", None)
    facts: Mapping[str, Any] = getattr(pool, "connection_kwargs", {})
    return facts


def store_url_of(broker: AsyncBroker) -> str | None:
    """The store that a broker brings along: its own Redis, or memory if all is in one process."""
    if isinstance(broker, InMemoryBroker):
        return local_store[-1]
    facts = connection_facts(broker)
    if not facts:
        return None
    user, password = facts.get("username") or "", facts.get("password") or ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    if facts.get("path"):
        return f"unix://{login}{facts['path']}?db={facts.get('db', 0)}"
    pool_class: Any = getattr(getattr(broker, "connection_pool", None), "connection_class", None)
    scheme = "rediss" if "SSL" in getattr(pool_class, "__name__", "") else "redis"
    host, port = facts.get("host", "localhost"), facts.get("port", 6379)
    return f"{scheme}://{login}{host}:{port}/{facts.get('db', 0)}"


def prepare_broker(broker: AsyncBroker) -> None:
    """Take a known trap out of a broker before its first use.

    taskiq-redis 1.2 with redis-py 8: the default ``socket_timeout`` of 5 s ends the blocking read
    of an idle list worker, and with it the worker, every 5 s; a step running there is killed.
    """
    facts = connection_facts(broker)
    if isinstance(facts, dict) and facts and "socket_timeout" not in facts:
        facts["socket_timeout"] = None
        logger.info(
            "%s: socket_timeout is set to None on its connection pool; redis-py's default of "
            "5 s would end an idle worker. Pass socket_timeout=... to the broker to keep yours.",
            type(broker).__name__,
        )


def use_processes(broker: AsyncBroker, most: int | None) -> None:
    """Run sync steps of an in-memory broker in worker processes, on all cores.

    Processes are spawned: a function is found by its module's path, so it must be importable.
    """
    if not isinstance(broker, InMemoryBroker):
        raise ConfigurationError(
            "executor='process' is for in-memory brokers; start other workers with "
            "`taskiq worker --use-process-pool`."
        )
    pool = process_pool(most)
    broker.executor.shutdown(wait=False)
    # InMemoryBroker has no option for it; its own shutdown() ends whatever executor it has.
    broker.executor = pool  # type: ignore[assignment]
    broker.receiver.executor = pool
    broker.receiver.is_process_pool = True


def process_pool(most: int | None) -> ProcessPoolExecutor:
    """So many processes, spawned when they are needed; they end with this one, however it ends."""
    return _Processes(
        max_workers=most or os.cpu_count() or 1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_end_with_parent,
    )


class _Processes(ProcessPoolExecutor):
    """A pool whose processes leave Ctrl-C to their parent, from their first moment on."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        # Processes are started in here, and inherit which signals this thread blocks.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _end_with_parent() -> None:
    """Watch the parent: one that gets SIGKILL closes nothing that its pool would wait for."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in processes of the pool only"
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
