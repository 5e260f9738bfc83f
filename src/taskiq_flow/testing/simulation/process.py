"""Simulated processes: each has its own broker object, engine and way to the store."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.decor import AsyncTaskiqDecoratedTask
from taskiq.receiver import Receiver

from taskiq_flow.codec import encode
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.lease import LeaseKeeper
from taskiq_flow.engine.runtime import Runtime, runtimes
from taskiq_flow.engine.sender import STEP_TASK
from taskiq_flow.exceptions import RunEndedError, RunNotFoundError, StoreError
from taskiq_flow.middleware import PipelineMiddleware
from taskiq_flow.model.records import RunStatus
from taskiq_flow.testing.simulation.broker import Message, Queue, SimulatedBackend, SimulatedBroker
from taskiq_flow.testing.simulation.checks import Ledger
from taskiq_flow.testing.simulation.clock import Strand, VirtualLoop
from taskiq_flow.testing.simulation.faults import Dice, Fault, seeded
from taskiq_flow.testing.simulation.link import StoreLink, Wire
from taskiq_flow.testing.simulation.oracle import payload_of
from taskiq_flow.testing.simulation.tasks import FUNCTIONS, VirtualThreads, scenes
from taskiq_flow.testing.simulation.workload import EVENT, Work, Workload

T = TypeVar("T")


@dataclass(slots=True)
class World:
    """What all processes of a simulation share."""

    seed: object
    loop: VirtualLoop
    wire: Wire
    queue: Queue
    dice: Dice
    config: TaskiqFlowConfig
    works: dict[str, Workload]
    results: dict[str, list[TaskiqResult[Any]]]
    trace: Callable[[str], None]
    brokers: list[SimulatedBroker] = field(default_factory=list[SimulatedBroker])

    @property
    def ledger(self) -> Ledger:
        return self.wire.store.ledger

    def forget(self) -> None:
        """Let go of all processes: an engine is kept as long as its broker, which it holds."""
        for broker in self.brokers:
            runtimes.forget(broker)
        scenes.clear()


@dataclass(slots=True)
class TaskKeeper(LeaseKeeper):
    """Keeps leases in a task on a strand of its own instead of in a thread."""

    strand: Strand | None = None
    task: asyncio.Task[None] | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        assert self.strand is not None
        self._loop = loop
        if self.task is None or self.task.done():
            self.task = loop.spawn(self.strand, self.keep(self.store.twin(), self._stop))

    def stop(self) -> None:
        self._stop.set()

    async def _rest(self, stop: threading.Event, seconds: float) -> None:
        await asyncio.sleep(seconds)  # at once: the thread looks often only to end soon


class RudeMiddleware(TaskiqMiddleware):
    """Somebody else's middleware: it raises now and then, and checks when it is called."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process

    def _maybe_raise(self) -> None:
        dice = self.process.world.dice
        if dice.throw(Fault.CALLBACK, dice.rates.per_hook):
            raise RuntimeError("a middleware broke")

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        self._maybe_raise()
        return message

    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        self._maybe_raise()

    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        self._maybe_raise()

    async def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Called for what is recorded, and for nothing else."""
        world = self.process.world
        if message.task_name != STEP_TASK and not result.is_err:
            run_id, step, *item = message.task_id.split(":")
            unit = (run_id, int(step), int(item[0]) if item else None)
            forgotten = world.ledger.rolled_back_at > float("-inf")
            if not forgotten and not world.wire.store.is_recorded(unit):
                world.ledger.now = world.loop.time()
                world.ledger.violated("post_save comes after the record", f"{unit}")
        self._maybe_raise()


class Process:
    """One process, with a main thread and one for leases; killed, frozen, or cut off from outside.

    ``dies_at`` is the operation (a call to store or broker) that is its last; half of the time it
    is sent off, half of the time it is not.
    """

    def __init__(self, world: World, name: str, *, is_worker: bool) -> None:
        self.world, self.name, self.loop = world, name, world.loop
        self.alive, self.frozen = True, False
        self.operations = 0
        self.dies_at: int | None = None
        self._troubles: list[tuple[float, float]] = []
        self._blocks: list[tuple[float, float]] = []
        self.main = self._strand("main")
        self.keeper = self._strand("leases")
        self.threads = VirtualThreads(world.loop)
        self.link = StoreLink(world.wire, self, self.operation)
        self.broker = SimulatedBroker(world.queue, self.operation)
        self.broker.result_backend = SimulatedBackend[Any](world.dice, world.results)
        self.broker.is_worker_process = is_worker
        middleware = PipelineMiddleware(self.link, config=world.config)
        self.broker.add_middlewares(middleware, RudeMiddleware(self))
        world.brokers.append(self.broker)
        self.runtime = middleware.runtime
        self._make_repeatable(self.runtime)

    def _strand(self, part: str) -> Strand:
        strand = self.world.loop.strand(f"{self.name}:{part}")
        scenes[strand] = self
        return strand

    def _make_repeatable(self, runtime: Runtime) -> None:
        """Give the engine seeded random numbers, and leases that are kept in virtual time."""
        chance = seeded(self.world.seed, self.name)
        keeper = TaskKeeper(self.link, runtime.leases.lease_seconds, strand=self.keeper)
        keeper.random = runtime.dispatcher.random = chance
        runtime.recovery.random = runtime.dispatcher.runner.random = chance
        runtime.dispatcher.new_token = lambda: f"{self.name}-{chance.getrandbits(64):016x}"
        runtime.leases = runtime.dispatcher.leases = keeper

    # -- what its functions and the checks ask

    @property
    def ledger(self) -> Ledger:
        return self.world.ledger

    def work_of(self, run_id: str) -> Workload:
        return self.world.works[run_id]

    def trace(self, text: str) -> None:
        self.world.trace(text)

    def disturbed(self, since: float) -> bool:
        return self.frozen or self.link.cut_off or any(end >= since for _, end in self._troubles)

    def blocked(self, since: float) -> bool:
        return self.main.frozen or any(end >= since for _, end in self._blocks)

    def hindered(self, since: float) -> bool:
        away = self.world.wire.away or self.world.wire.was_away(since)
        return away or self.blocked(since) or self.disturbed(since)

    # -- what happens to it

    def operation(self) -> bool:
        """Count a call to store or broker; False when it died before that left."""
        self.operations += 1
        if self.dies_at is None or self.operations != self.dies_at or not self.world.dice.active:
            return True
        sent = self.world.dice.random.random() < 0.5
        self.kill()
        return sent

    def kill(self) -> None:
        """SIGKILL."""
        if not self.alive:
            return
        self.trace(f"{self.name} is killed")
        self._end()

    def _end(self) -> None:
        self.alive = False
        self.main.ended = self.keeper.ended = True
        self.ledger.died(self)
        for message in self.broker.in_hand:
            self.world.queue.give_up(message)

    def kill_in(self, callbacks: int) -> None:
        """SIGKILL after so many more callbacks: between any two things that it does."""
        self.main.countdown, self.main.on_countdown = callbacks, self.kill

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        if not self.alive or self.frozen or self.main.frozen:
            return
        self.trace(f"{self.name} stands still for {seconds:.1f} s")
        self.frozen = True
        for strand in (self.main, self.keeper):
            self.loop.freeze(strand)
        self._troubles.append((self.loop.time(), self.loop.time() + seconds))
        self._after(seconds, self._go_on)

    def _go_on(self) -> None:
        self.frozen = False
        for strand in (self.main, self.keeper):
            self.loop.thaw(strand)

    def block(self, seconds: float) -> None:
        """Block the event loop; other threads go on."""
        if not self.world.dice.throw(Fault.BLOCK, 0.3) or self.frozen:
            return
        self.trace(f"{self.name} blocks its loop for {seconds:.1f} s")
        self.loop.freeze(self.main)
        self._blocks.append((self.loop.time(), self.loop.time() + seconds))
        self._after(seconds, lambda: None if self.frozen else self.loop.thaw(self.main))

    def cut_off(self, seconds: float) -> None:
        """Lose the way to the store for a while."""
        if not self.alive or self.link.cut_off:
            return
        self.trace(f"{self.name} is cut off from the store for {seconds:.1f} s")
        self.link.cut_off = True
        self._troubles.append((self.loop.time(), self.loop.time() + seconds + 1.0))
        self._after(seconds, self._connected)

    def _connected(self) -> None:
        self.link.cut_off = False

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self.world.wire.later(seconds, act)


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


class Client(Process):
    """A process that starts a run, and perhaps cancels it or waits for it."""

    def __init__(self, world: World, name: str, work: Workload) -> None:
        super().__init__(world, name, is_worker=False)
        self.work = work
        self.client = RunClient(self.runtime)
        self.created = self.cancelled = False
        self.heard: RunStatus | None = None
        self.task = world.loop.spawn(self.main, self._live())

    @property
    def done(self) -> bool:
        """Whether nothing more is to be expected of it."""
        return self.task.done() or not self.alive

    async def _live(self) -> None:
        work = self.work
        await asyncio.sleep(work.start_after)
        await self._insist(self._start)
        self.created = True
        self.trace(f"{self.name} has created {work.run_id}")
        if work.cancel_after is not None:
            await asyncio.sleep(work.cancel_after)
            self.cancelled = await self._insist(lambda: self.client.cancel(work.run_id, "enough"))
        if work.waits:
            self.heard = await self._insist(lambda: self.client.wait(work.run_id))

    async def _start(self) -> str:
        work = self.work
        return await self.client.start(
            work.plan,
            inputs=[encode(value, where="input") for value in work.inputs],
            items=work.encoded_items,
            timeout_seconds=work.timeout_seconds,
            max_parallel=work.max_parallel,
            run_id=work.run_id,
        )

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Try again as long as the store does not answer; every call may be repeated."""
        while True:
            try:
                return await call()
            except StoreError:
                await asyncio.sleep(0.5)


class Operator(Process):
    """Sends the events that runs wait for; it never dies."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name, is_worker=False)
        self.client = RunClient(self.runtime)
        for work in world.works.values():
            if work.event_after is not None and any(s.event == EVENT for s in work.plan.steps):
                world.loop.spawn(self.main, self._send(work))

    async def _send(self, work: Workload) -> None:
        await asyncio.sleep(work.start_after + (work.event_after or 0.0))
        # Again and again: a store that failed over forgets an event too.
        while True:
            try:
                await self.client.send_event(work.run_id, EVENT, payload_of(work))
            except RunEndedError:
                return
            except (StoreError, RunNotFoundError):
                pass
            await asyncio.sleep(5.0)
