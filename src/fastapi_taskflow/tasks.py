"""What routes add their tasks to: FastAPI's `BackgroundTasks`, durable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from fastapi import BackgroundTasks

from taskiq_flow.exceptions import StoreError

if TYPE_CHECKING:
    from fastapi_taskflow.manager import TaskManager

AFTER_RESPONSE_SECONDS = 1.0
"""How long a request stays with its quick tasks after its response.

As with FastAPI's own tasks, a test client that has its answer finds the work done. A server sends
the response before, and longer tasks go on by themselves."""


class ManagedBackgroundTasks(BackgroundTasks):
    """Adds tasks to a manager; works wherever `BackgroundTasks` does.

    In a request tasks are stored before its response is sent, and dropped when it fails. Anywhere
    else `add_task` stores them at once. ``background_tasks`` is what FastAPI made for this
    request; tasks that were added there are run after the response, as they are.
    """

    def __init__(
        self, task_manager: TaskManager, background_tasks: BackgroundTasks | None = None
    ) -> None:
        super().__init__()
        self.task_manager = task_manager
        self.task_ids: list[str] = []
        self._inner = background_tasks
        if isinstance(background_tasks, ManagedBackgroundTasks):
            self.task_ids = background_tasks.task_ids

    def add_task(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        func: Callable[..., Any],
        /,
        *args: Any,
        idempotency_key: str | None = None,
        tags: dict[str, str] | None = None,
        eager: bool | None = None,
        priority: int | None = None,
        queue: str | None = None,
        **kwargs: Any,
    ) -> str:
        """Add a task and return its id; what is given here goes before the decorator's options.

        A parameter of the function that has the name of an option is given by position. With an
        ``idempotency_key`` for which there is a task already (on any instance), its id is returned
        and nothing is added; a key counts while its task has not failed, and was not cancelled,
        rejected or interrupted.

        Raises:
            TaskArgumentError: An argument cannot be stored; it names the parameter.
            QueueFullError: The queue is full; a record with the status REJECTED is left.
            TaskNotStoredError: Outside of a request: the store does not take it.
        """
        task_id = self.task_manager.add_task(
            func,
            *args,
            idempotency_key=idempotency_key,
            tags=tags,
            eager=eager,
            priority=priority,
            queue=queue,
            **kwargs,
        )
        self.task_ids.append(task_id)
        return task_id

    async def __call__(self) -> None:
        """Called by the response after it has been sent."""
        if self._inner is not None and not isinstance(self._inner, ManagedBackgroundTasks):
            await self._inner()
        await self.task_manager.store_now()
        patience = None if self.task_manager.run_synchronously else AFTER_RESPONSE_SECONDS
        with suppress(StoreError):  # the response has been sent: nobody could be told
            await self.task_manager.wait(self.task_ids, timeout=patience)


def managed(manager: TaskManager, background_tasks: BackgroundTasks) -> ManagedBackgroundTasks:
    """The managed tasks of a request, the same object for whoever asks."""
    if (
        isinstance(background_tasks, ManagedBackgroundTasks)
        and background_tasks.task_manager is manager
    ):
        return background_tasks
    known = getattr(background_tasks, "_managed", None)
    if known is not None and known.task_manager is manager:
        return cast("ManagedBackgroundTasks", known)
    made = ManagedBackgroundTasks(manager)
    # FastAPI runs what it made itself after the response: that leads here.
    background_tasks.add_task(made)
    background_tasks._managed = made  # type: ignore[attr-defined]
    return made
