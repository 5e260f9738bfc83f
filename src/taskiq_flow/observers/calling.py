"""Calls foreign hooks, sync or async, so that none of them can hold up the event loop for long."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Any

HOOK_SECONDS = 30.0
"""A hook that takes longer is given up."""


async def call_hook(
    hook: Callable[..., Any], *args: Any, timeout_seconds: float = HOOK_SECONDS
) -> Any:
    """Call a hook and wait for it; a sync one runs in a thread of its own.

    Raises:
        TimeoutError: It took too long; a sync one cannot be stopped, and is left behind.
        RuntimeError: It called `sys.exit`, which would end the process, or cancelled itself.
    """
    async with asyncio.timeout(timeout_seconds):
        try:
            if inspect.iscoroutinefunction(hook):
                return await hook(*args)
            result = await _in_thread(hook, args)
            return await result if inspect.isawaitable(result) else result
        except SystemExit as error:
            raise RuntimeError(f"the hook raised {error!r}") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError(f"the hook raised {error!r}") from error


async def _in_thread(hook: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Run a function in a daemon thread: one of a pool that hangs would keep the process alive."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = context.run(hook, *args)
        except StopIteration as raised:  # a future refuses it
            error = RuntimeError(f"the hook raised {raised!r}")
        except BaseException as raised:  # noqa: BLE001 - it is handed to who waits
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="taskiq-flow-hook", daemon=True).start()
    return await answer
