"""Simulated workers: they take messages and run steps, as `taskiq worker` does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from taskiq.decor import AsyncTaskiqDecoratedTask
from taskiq.receiver import Receiver

from taskiq_flow.testing.simulation.broker import Message, SimulatedBroker
from taskiq_flow.testing.simulation.process import Process, World
from taskiq_flow.testing.simulation.tasks import FUNCTIONS, VirtualThreads
from taskiq_flow.testing.simulation.workload import Work


class Worker(Process):
    """A process that runs steps, like ``taskiq worker`` with one child process."""

    def __init__(
        self, world: World, name: str, *, most_at_once: int = 10, lacks: frozenset[Work]
    ) -> None:
        super().__init__(world, name, is_worker=True)
        for work, function in FUNCTIONS.items():
            if work not in lacks:
                self.broker.local_task_registry[work] = _task(self.broker, work, function)
        self.receiver = _receiver(self.broker, self.threads, most_at_once)
        self.free = asyncio.Semaphore(most_at_once)
        self.callbacks: list[asyncio.Task[None]] = []
        self.taking = False
        self.stopping = False
        self.on_exit: Callable[[], None] = lambda: None
        self.serving = world.loop.spawn(self.main, self._serve())

    # -- the queue's listener

    @property
    def listening(self) -> bool:
        return self.taking and self.alive

    def deliver(self, message: Message) -> None:
        self.broker.incoming.put_nowait(message)

    async def _serve(self) -> None:
        """Take messages until told to stop, as Taskiq's receiver does."""
        try:
            await self.broker.startup()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process ends
            self.trace(f"{self.name} does not start: {error}")
            self.exit()
            return
        messages = self.broker.listen()
        self.taking = True
        try:
            async for message in messages:
                await self.free.acquire()
                task = asyncio.ensure_future(self.receiver.callback(message))
                self.callbacks = [one for one in self.callbacks if not one.done()]
                self.callbacks.append(task)
                task.add_done_callback(self._handled)
        except asyncio.CancelledError:
            self.trace(f"{self.name} is told to stop")
        finally:
            self.taking = False
            await messages.aclose()
        going = [task for task in self.callbacks if not task.done()]
        if going:
            await asyncio.wait(going, timeout=self.world.dice.random.choice((0.1, 3.0, 10.0)))
        await self.broker.shutdown()
        # Threads are joined when an interpreter ends.
        while any(one.host is self for one in self.ledger.executions if one.in_thread):
            await asyncio.sleep(0.1)
        self.exit()

    def _handled(self, task: asyncio.Task[None]) -> None:
        self.free.release()
        if not task.cancelled():
            task.exception()  # taskiq would log it

    def exit(self) -> None:
        """The process ends by itself."""
        if self.alive:
            self.trace(f"{self.name} exits")
            self._end()
            self.on_exit()

    def kill(self) -> None:
        was_alive = self.alive
        super().kill()
        if was_alive:
            self.on_exit()

    def stop(self) -> None:
        """SIGTERM: take no more messages, finish or give back what runs, and exit."""
        if self.taking and not self.stopping:
            self.stopping = True
            self.serving.cancel()

    def break_callback(self, chance: random.Random) -> None:
        """Let one of the coroutines that handle messages die, wherever it is."""
        going = [task for task in self.callbacks if not task.done()]
        if going and self.alive:
            self.trace(f"{self.name}: a dispatching coroutine dies")
            chance.choice(going).cancel()

    @property
    def leftovers(self) -> Mapping[str, int]:
        """What an idle worker still has, and should not have."""
        # Taking messages, looking for what is due, and leases if they are kept here.
        services = 2 + (self.keeper is self.main)
        return {
            "leases": len(self.runtime.leases.held),
            "calls": len(self.runtime.dispatcher.runner.calls),
            "tasks": max(0, len(self.main.going) - services),
        }


def _task(
    broker: SimulatedBroker, work: Work, function: Callable[..., Any]
) -> AsyncTaskiqDecoratedTask[Any, Any]:
    """Make a task, and not by ``register_task``, which reads the type hints each time.

    Taskiq (0.13) makes the function's name longer with each task that is made of it, and keeps
    the names: those of thousands of workers would fill the memory.
    """
    name, qualified_name = function.__name__, function.__qualname__
    task = AsyncTaskiqDecoratedTask[Any, Any](broker, work, function, {})
    function.__name__, function.__qualname__ = name, qualified_name
    return task


_prepared: list[Receiver] = []


def _receiver(broker: SimulatedBroker, threads: VirtualThreads, most_at_once: int) -> Receiver:
    """Taskiq's receiver; what it finds out of the functions' signatures is found out once."""
    tasks = broker.local_task_registry
    broker.local_task_registry = {} if _prepared else tasks
    receiver = Receiver(broker, executor=threads, max_async_tasks=most_at_once, run_startup=False)
    broker.local_task_registry = tasks
    if not _prepared and len(tasks) > len(FUNCTIONS):
        _prepared.append(receiver)
    for known in _prepared:
        receiver.known_tasks = known.known_tasks
        receiver.task_signatures = known.task_signatures
        receiver.task_hints = known.task_hints
        receiver.dependency_graphs = known.dependency_graphs
    return receiver
