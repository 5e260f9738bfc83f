"""A simulated cluster: workers, clients, a broker and a store, and all that happens to them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from taskiq import TaskiqResult

from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.testing.simulation.broker import Queue
from taskiq_flow.testing.simulation.checks import Violation
from taskiq_flow.testing.simulation.clients import Client, Operator
from taskiq_flow.testing.simulation.clock import TimeStandsStillError, VirtualLoop
from taskiq_flow.testing.simulation.faults import Dice, Fault, Rates, describe_faults, seeded
from taskiq_flow.testing.simulation.link import Wire
from taskiq_flow.testing.simulation.process import World
from taskiq_flow.testing.simulation.store import WatchedStore
from taskiq_flow.testing.simulation.storms import Storms
from taskiq_flow.testing.simulation.verdict import explain_unrest, judge
from taskiq_flow.testing.simulation.worker import Worker
from taskiq_flow.testing.simulation.workload import Work, WorkloadMaker

EPOCH = 1_700_000_000.0
"""The store's clock is this far from the loops', so code that mixes them up is seen."""

QUEUE = "SimulatedBroker:"


@dataclass(frozen=True, slots=True)
class Setting:
    """How large a simulation is; times in seconds of virtual time.

    One that runs more than ``most_callbacks`` counts as broken: something repeats itself for ever.
    """

    lease_seconds: float = 4.0
    workers: int = 3
    runs: int = 4
    faulty_seconds: float = 25.0
    patience_seconds: float = 600.0
    limited: float = 0.2
    most_callbacks: int = 100_000
    rates: Rates = field(default_factory=Rates)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one schedule."""

    seed: int
    faults: frozenset[Fault]
    violations: tuple[Violation, ...]
    counts: Counter[str]
    seconds: float
    """How much virtual time it took."""
    thrown: Counter[Fault]

    @property
    def ok(self) -> bool:
        return not self.violations

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}, faults {describe_faults(self.faults)}: "
            + ("kept every promise" if self.ok else "broke a promise")
        ]
        lines += [str(violation) for violation in self.violations]
        if not self.ok:
            names = describe_faults(self.faults)
            lines.append(
                "replay: python -m taskiq_flow.testing.simulation "
                f"--seed {self.seed} --faults {names} --trace"
            )
        return "\n".join(lines)


class Cluster:
    """One schedule: a cluster made from a seed, its faults, and what is seen of it."""

    def __init__(
        self,
        seed: int,
        faults: frozenset[Fault],
        setting: Setting,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.seed, self.faults, self.setting = seed, faults, setting
        self._trace = trace
        self.random = seeded(seed, "cluster")
        self.loop = VirtualLoop()
        self.dice = Dice(seeded(seed, "dice"), faults, setting.rates)
        lease = setting.lease_seconds
        options = StoreOptions(lease_seconds=lease, kick_seconds=lease)
        self.store = WatchedStore(options, lambda: self.loop.time() + EPOCH)
        self.queue = Queue(self.loop, self.dice, lease)
        maker = WorkloadMaker(seeded(seed, "work"), QUEUE, lease, setting.limited)
        works = [maker.make(number, seed) for number in range(setting.runs)]
        self.results: dict[str, list[TaskiqResult[Any]]] = {}
        self.world = World(
            seed=seed,
            loop=self.loop,
            wire=Wire(self.loop, self.store, self.dice, self.trace),
            queue=self.queue,
            dice=self.dice,
            config=_CONFIG.model_copy(
                update={
                    "lease_seconds": lease,
                    "kick_seconds": lease,
                    "continue_steps": self.random.choice((0, 2, 1000)),
                }
            ),
            works={work.run_id: work for work in works},
            results=self.results,
            trace=self.trace,
        )
        self.workers: list[Worker] = []
        self.clients: list[Client] = []
        self._incarnations = 0
        self.began_at = self.loop.time()
        self._wanted = setting.workers

    def trace(self, text: str) -> None:
        if self._trace is not None and not self.store.ledger.closed:
            self._trace(f"{self.loop.time() - self.began_at:10.3f}  {text}")

    # -- the schedule

    def run(self) -> Report:
        setting = self.setting
        self._begin()
        Storms(self).schedule()
        self._advance_until(setting.faulty_seconds, lambda: False)
        self._heal()
        patience = setting.faulty_seconds + setting.patience_seconds
        self._advance_until(patience, self._is_quiet)
        if self.store.ledger.violations:
            return self._report()
        self.store.ledger.now = self.loop.time()
        if self._is_quiet():
            self.loop.run_until_complete(judge(self))
        else:
            explain_unrest(self)
        return self._report()

    def _begin(self) -> None:
        for _ in range(self.setting.workers):
            self._start_worker()
        for number, work in enumerate(self.world.works.values()):
            client = Client(self.world, f"client-{number}", work)
            if self.dice.has(Fault.CLIENT_DEATH) and self.random.random() < 0.5:
                client.dies_at = self.random.randint(1, 4)
            self.clients.append(client)
        self.operator = Operator(self.world, "operator")

    def _start_worker(self) -> None:
        self._incarnations += 1
        lacks: frozenset[Work] = frozenset()
        if self.dice.throw(Fault.OLD_CODE, 0.3):
            lacks = frozenset({self.random.choice(list(Work))})
        worker = Worker(
            self.world,
            f"worker-{self._incarnations}",
            most_at_once=self.random.choice((2, 10, 10)),
            lacks=lacks,
        )
        if self.dice.has(Fault.CRASH) and self.random.random() < 0.5:
            worker.dies_at = self.random.randint(1, 60)
        worker.on_exit = lambda: self._replace(worker)
        self.workers.append(worker)
        self.queue.listeners.append(worker)

    def _replace(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.queue.listeners.remove(worker)
        wait = self.random.uniform(0.2, 1.5 * self.setting.lease_seconds)
        self.world.wire.later(wait, self._fill_up)

    def _fill_up(self) -> None:
        if len(self.workers) < self._wanted:
            self._start_worker()

    def _heal(self) -> None:
        """End all faults. As few as one worker is left, with all its code."""
        self.trace("from here on nothing goes wrong")
        self.dice.active = False
        self._wanted = self.random.randint(1, self.setting.workers)
        for worker in list(self.workers):
            old = len(worker.broker.local_task_registry) < 1 + len(Work)
            if old or len(self.workers) > self._wanted:
                worker.kill()
        for worker in self.workers:
            worker.dies_at = None
        self.world.wire.later(0.0, self._fill_up)

    def _advance_until(self, seconds: float, reached: Callable[[], bool]) -> None:
        """Let time pass up to a moment, or until something is reached or seen to be wrong."""
        end, ledger = self.began_at + seconds, self.store.ledger
        while self.loop.time() < end and not reached() and not ledger.violations:
            try:
                self.loop.run(min(self.loop.time() + 0.5, end))
            except TimeStandsStillError as error:
                self._never_ends(str(error))
                return
            if self.loop.callbacks > self.setting.most_callbacks:
                self._never_ends(f"{self.loop.callbacks} callbacks have run")

    def _never_ends(self, why: str) -> None:
        ledger = self.store.ledger
        ledger.now = self.loop.time()
        ledger.violated("A schedule comes to its end", why)

    def _is_quiet(self) -> bool:
        """Whether everything has come to its end, and everybody has noticed."""
        return (
            all(client.done for client in self.clients)
            and all(state.status.is_final for state in self.store.states())
            and not self.store.unsettled()
            and not self.store.ledger.executions
            and any(worker.listening for worker in self.workers)
            and not any(any(worker.leftovers.values()) for worker in self.workers)
        )

    def _report(self) -> Report:
        ledger = self.store.ledger
        ledger.closed = True
        report = Report(
            seed=self.seed,
            faults=self.faults,
            violations=tuple(ledger.violations),
            counts=ledger.counts,
            seconds=self.loop.time() - self.began_at,
            thrown=self.dice.thrown,
        )
        self.loop.dispose()
        self.world.forget()
        return report


def simulate(
    seed: int,
    faults: frozenset[Fault] = frozenset(Fault),
    *,
    setting: Setting | None = None,
    trace: Callable[[str], None] | None = None,
) -> Report:
    """Run the schedule of a seed, and check every promise. The same seed does the same again."""
    logging.disable(logging.CRITICAL)  # broken steps and lost calls are what this is about
    try:
        return Cluster(seed, faults, setting or Setting(), trace).run()
    finally:
        logging.disable(logging.NOTSET)


_CONFIG = TaskiqFlowConfig()
