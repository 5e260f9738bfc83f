"""What the routes work with: the manager, the operators' record, and who asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import Request

from fastapi_taskflow.exceptions import UnknownTaskError
from taskiq_flow.operations import MASK, Operations, redact_secrets
from taskiq_flow.security import identity_of

if TYPE_CHECKING:
    from fastapi_taskflow.manager import TaskManager
    from fastapi_taskflow.models import TaskRecord

ARGUMENTS = "inputs.arguments"
"""Where operators are shown the arguments of a task."""


@dataclass(slots=True)
class Desk:
    """Where the routes and the dashboard of one `TaskAdmin` read and act."""

    manager: TaskManager
    display_func_args: bool = False
    _operations: tuple[asyncio.AbstractEventLoop, Operations] | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def operations(self) -> Operations:
        """The operations on the manager's store, opened when they are first asked for."""
        loop = asyncio.get_running_loop()
        if self._operations is None or self._operations[0] is not loop:
            async with self._opening:
                if self._operations is None or self._operations[0] is not loop:
                    store = await self.manager.store.bridge.opened()
                    core = self.manager.core
                    broker = core.broker or (core.engine and core.engine.broker)
                    redact = redact_secrets if self.display_func_args else without_arguments
                    opened = await Operations.open(store, broker=broker, redact=redact)
                    self._operations = (loop, opened)
        return self._operations[1]

    async def close(self) -> None:
        """Close what was opened; the manager's store stays open."""
        opened, self._operations = self._operations, None
        self._opening = asyncio.Lock()
        if opened is not None and opened[0] is asyncio.get_running_loop():
            await opened[1].close()

    @asynccontextmanager
    async def audited(
        self, request: Request, action: str, target: str, **details: Any
    ) -> AsyncGenerator[dict[str, Any]]:
        """Write down who did what, or why it was refused; the dict may be filled meanwhile."""
        operations = await self.operations()
        async with operations.audited(actor_of(request), action, target) as facts:
            facts |= details
            yield facts

    async def task(self, request: Request, task_id: str) -> TaskRecord:
        """A task with its log, if who asks may see it.

        Raises:
            UnknownTaskError: There is none, or it is not theirs to see.
        """
        record = await self.manager.store.aget(task_id)
        if record is None or not may_see(request, record):
            raise UnknownTaskError(task_id)
        return record


def without_arguments(path: str, value: Any) -> Any:
    """Mask the arguments of tasks, and what is called like a secret."""
    if path == ARGUMENTS or path.startswith(f"{ARGUMENTS}."):
        return MASK
    return redact_secrets(path, value)


def actor_of(request: Request) -> str:
    """Who asks, as the audit calls them."""
    return identity_of(request).name


def may_see(request: Request, record: TaskRecord) -> bool:
    """Whether a task is among those that who asks is confined to, if they are."""
    return identity_of(request).may_see(record.func_name, record.task_id)
