"""A message broker and a result backend that lose, repeat, delay and refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from taskiq import AckableMessage, AsyncBroker, AsyncResultBackend, BrokerMessage, TaskiqResult

from taskiq_flow.testing.simulation.clock import VirtualLoop
from taskiq_flow.testing.simulation.faults import Dice, Fault

T = TypeVar("T")

QUEUE_LOOK_SECONDS = 0.5
"""How often a message that nobody takes is offered again."""


class Listener(Protocol):
    """A worker that takes messages."""

    @property
    def listening(self) -> bool: ...

    def deliver(self, message: Message) -> None: ...


@dataclass(slots=True, eq=False)
class Message:
    """One message in the broker's hands."""

    data: bytes
    acknowledged: bool = False
    deliveries: int = 0


@dataclass(slots=True)
class Queue:
    """The queue that all workers of a cluster share."""

    loop: VirtualLoop
    dice: Dice
    lease_seconds: float
    listeners: list[Listener] = field(default_factory=list[Listener])
    closed_until: float = 0.0
    away_until: float = 0.0
    sent: int = 0

    def put(self, data: bytes) -> None:
        """Take a message; what becomes of it is decided here."""
        dice = self.dice
        self.sent += 1
        if dice.throw(Fault.DROP, dice.rates.per_message):
            return
        self._deliver_in(self._travel_seconds(), Message(data))
        if dice.throw(Fault.DUPLICATE, dice.rates.per_message):
            much_later = dice.random.choice((0.01, 1.0, 4.0)) * self.lease_seconds
            self._deliver_in(dice.random.uniform(0.0, much_later), Message(data))

    def _travel_seconds(self) -> float:
        seconds = self.dice.random.uniform(0.001, 0.005)
        if self.dice.throw(Fault.DELAY, 0.5):
            seconds += self.dice.random.expovariate(1 / (0.15 * self.lease_seconds))
        return seconds

    def _deliver_in(self, seconds: float, message: Message) -> None:
        self.loop.call_later(seconds, self._deliver, message, context=Context())

    def _deliver(self, message: Message) -> None:
        now = self.loop.time()
        if self.closed_until > now:
            self._deliver_in(self.closed_until - now + self._travel_seconds(), message)
            return
        takers = [one for one in self.listeners if one.listening]
        if not takers:
            self._deliver_in(QUEUE_LOOK_SECONDS, message)
            return
        message.deliveries += 1
        self.dice.random.choice(takers).deliver(message)

    def give_up(self, message: Message) -> None:
        """A worker died or stopped with this message unacknowledged; some brokers send it again."""
        if not message.acknowledged and self.dice.random.random() < 0.5:
            self._deliver_in(self.dice.random.uniform(0.0, self.lease_seconds), message)


class SimulatedBroker(AsyncBroker):
    """The broker object of one process; ``operation`` counts towards its death."""

    def __init__(self, queue: Queue, operation: Callable[[], bool]) -> None:
        super().__init__()
        self.queue = queue
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.in_hand: set[Message] = set()
        self._operation = operation
        self._count = 0
        self.id_generator = self._next_id

    def _next_id(self) -> str:
        self._count += 1
        return f"message-{self._count}"

    async def kick(self, message: BrokerMessage) -> None:
        queue = self.queue
        if not self._operation():
            await asyncio.Event().wait()
        if queue.away_until > queue.loop.time():
            wait = queue.dice.random.choice((0.01, 0.5, 1.5)) * queue.lease_seconds
            await asyncio.sleep(wait)
            raise ConnectionError("the simulated broker is away")
        await asyncio.sleep(queue.dice.random.uniform(0.0002, 0.002))
        queue.put(message.message)

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        while True:
            message = await self.incoming.get()
            self.in_hand.add(message)
            yield AckableMessage(data=message.data, ack=self._acknowledging(message))

    def _acknowledging(self, message: Message) -> Callable[[], Awaitable[None]]:
        async def acknowledge() -> None:
            if not self._operation():
                await asyncio.Event().wait()
            await asyncio.sleep(0.001)
            dice = self.queue.dice
            if dice.throw(Fault.CALLBACK, dice.rates.per_hook):
                raise ConnectionError("the simulated broker does not hear of an acknowledgement")
            message.acknowledged = True
            self.in_hand.discard(message)

        return acknowledge


class SimulatedBackend(AsyncResultBackend[T]):
    """Results in one place for all processes, sometimes out of reach."""

    def __init__(self, dice: Dice, results: dict[str, list[TaskiqResult[Any]]]) -> None:
        self.dice = dice
        self.results = results

    async def set_result(self, task_id: str, result: TaskiqResult[T]) -> None:
        await asyncio.sleep(0.001)
        if self.dice.throw(Fault.BACKEND, 0.3):
            raise ConnectionError("the simulated result backend is away")
        self.results.setdefault(task_id, []).append(result)

    async def is_result_ready(self, task_id: str) -> bool:
        return task_id in self.results

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[T]:
        return self.results[task_id][-1]
