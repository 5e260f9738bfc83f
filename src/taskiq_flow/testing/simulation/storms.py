"""When the faults that come by time happen to a cluster, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskiq_flow.testing.simulation.faults import Fault

if TYPE_CHECKING:
    from taskiq_flow.testing.simulation.cluster import Cluster
    from taskiq_flow.testing.simulation.worker import Worker


@dataclass(slots=True)
class Storms:
    """Crashes, pauses, outages and the like of one schedule."""

    cluster: Cluster

    def schedule(self) -> None:
        """Decide now when each of them happens; to whom is decided then."""
        rates = self.cluster.setting.rates
        plans: list[tuple[Fault, float, Callable[[], None]]] = [
            (Fault.CRASH, rates.crash_every, self._crash),
            (Fault.STOP, rates.stop_every, self._stop),
            (Fault.PAUSE, rates.pause_every, self._pause),
            (Fault.PARTITION, rates.outage_every, self._cut_off),
            (Fault.CALLBACK, rates.callback_every, self._break_callback),
            (Fault.OUTAGE, rates.outage_every, self._lose_store),
            (Fault.FAILOVER, rates.failover_every, self._fail_over),
            (Fault.BACKLOG, rates.backlog_every, self._close_queue),
            (Fault.BROKER_AWAY, rates.outage_every, self._lose_broker),
        ]
        for kind, every, act in plans:
            for moment in self.cluster.dice.moments(
                kind, every, self.cluster.setting.faulty_seconds
            ):
                self._later(moment, act)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self.cluster.world.wire.later(seconds, act)

    def _someone(self) -> Worker | None:
        workers = self.cluster.workers
        return self.cluster.random.choice(workers) if workers else None

    def _length(self, leases: float) -> float:
        """How long a pause or outage is: often short; it ends before the faulty time does."""
        cluster = self.cluster
        left = cluster.began_at + cluster.setting.faulty_seconds - cluster.loop.time()
        most = leases * cluster.setting.lease_seconds * cluster.random.choice((1.0, 0.3))
        return max(0.01, min(cluster.random.uniform(0.1, most), left))

    # -- to a worker

    def _crash(self) -> None:
        worker = self._someone()
        if worker is not None:
            worker.kill_in(self.cluster.random.randint(1, 30))

    def _stop(self) -> None:
        worker = self._someone()
        if worker is not None:
            worker.stop()

    def _pause(self) -> None:
        worker = self._someone()
        if worker is not None:
            worker.pause(self._length(self.cluster.setting.rates.longest_pause))

    def _cut_off(self) -> None:
        worker = self._someone()
        if worker is not None:
            worker.cut_off(self._length(self.cluster.setting.rates.longest_outage))

    def _break_callback(self) -> None:
        worker = self._someone()
        if worker is not None:
            worker.break_callback(self.cluster.random)

    # -- to the store

    def _lose_store(self) -> None:
        wire = self.cluster.world.wire
        if wire.away:
            return
        seconds = self._length(self.cluster.setting.rates.longest_outage)
        self.cluster.trace(f"the store is away for {seconds:.1f} s")
        wire.away = True
        now = self.cluster.loop.time()
        wire.outages.append((now, now + seconds + 1.0))
        self._later(seconds, self._find_store)

    def _find_store(self) -> None:
        self.cluster.trace("the store is back")
        self.cluster.world.wire.away = False

    def _fail_over(self) -> None:
        """Take a copy now, and go on from it a little later."""
        cluster = self.cluster
        snapshot = cluster.store.snapshot()
        lost = cluster.random.uniform(0.0, cluster.setting.rates.rolled_back_seconds)

        def switch() -> None:
            cluster.trace(f"the store fails over and forgets {lost:.2f} s")
            cluster.store.ledger.now = cluster.loop.time()
            cluster.store.roll_back(snapshot)

        self._later(lost, switch)

    # -- to the broker

    def _close_queue(self) -> None:
        seconds = self._length(self.cluster.setting.rates.longest_backlog)
        self.cluster.trace(f"nothing is delivered for {seconds:.1f} s")
        self.cluster.queue.closed_until = self.cluster.loop.time() + seconds

    def _lose_broker(self) -> None:
        seconds = self._length(self.cluster.setting.rates.longest_outage)
        self.cluster.trace(f"the broker is away for {seconds:.1f} s")
        self.cluster.queue.away_until = self.cluster.loop.time() + seconds
