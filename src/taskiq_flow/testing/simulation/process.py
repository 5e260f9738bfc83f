"""Simulated processes: each has its own broker object, engine and way to the store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult

from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.lease import LeaseKeeper
from taskiq_flow.engine.runtime import Runtime, runtimes
from taskiq_flow.engine.sender import STEP_TASK
from taskiq_flow.middleware import PipelineMiddleware
from taskiq_flow.testing.simulation.broker import Queue, SimulatedBackend, SimulatedBroker
from taskiq_flow.testing.simulation.checks import Ledger
from taskiq_flow.testing.simulation.clock import Strand, VirtualLoop
from taskiq_flow.testing.simulation.faults import Dice, Fault, seeded
from taskiq_flow.testing.simulation.link import StoreLink, Wire
from taskiq_flow.testing.simulation.tasks import VirtualThreads, scenes
from taskiq_flow.testing.simulation.workload import Workload


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
        keeper.random = runtime.dispatcher.random = runtime.dispatcher.returns.random = chance
        runtime.recovery.random = runtime.dispatcher.runner.random = chance
        runtime.dispatcher.new_token = lambda: f"{self.name}-{chance.getrandbits(64):016x}"
        runtime.leases = runtime.dispatcher.leases = runtime.dispatcher.returns.leases = keeper

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
