"""Real worker processes that are killed and replaced, and what their bodies wrote down."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.support.tree import LEAN, ROOT


@dataclass
class Worker:
    process: subprocess.Popen[bytes]

    def pids(self) -> list[int]:
        """The worker's own process and its children: the bodies run in one of those."""
        return [self.process.pid, *_descendants(self.process.pid)]


@dataclass
class Cluster:
    """Workers of `tests.chaos.app` on one broker and store."""

    directory: Path
    environment: dict[str, str]
    options: tuple[str, ...] = ()
    workers: list[Worker] = field(default_factory=list)
    killed_at: dict[int, float] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.directory / "bodies.log"

    def start_worker(self) -> Worker:
        command = [sys.executable, "-m", "taskiq", "worker", "tests.chaos.app:broker"]
        command += ["--workers", "1", "--log-level", "WARNING", *self.options]
        output = (self.directory / "workers.log").open("ab")
        worker = Worker(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        )
        output.close()
        self.workers.append(worker)
        return worker

    def kill(self, worker: Worker) -> None:
        """SIGKILL a worker with its children, and note when."""
        pids = worker.pids()
        os.killpg(worker.process.pid, signal.SIGKILL)
        now = time.time()
        self.killed_at.update(dict.fromkeys(pids, now))
        worker.process.wait()
        self.workers.remove(worker)

    def run_client(self, first: int, last: int, started: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.chaos.client", str(first), str(last), str(started)]
        output = (self.directory / "client.log").open("ab")
        process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=output, stderr=output
        )
        output.close()
        return process

    def close(self) -> None:
        for worker in list(self.workers):
            self.kill(worker)

    def bodies(self) -> list["Body"]:
        """Every begun body with its end: its own, or the death of its process."""
        open_bodies: dict[tuple[str, int], Body] = {}
        found: list[Body] = []
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        for line in lines:
            mark, unit, pid, at = line.split()
            key = (unit, int(pid))
            if mark == "B":
                body = Body(unit, int(pid), float(at), self.killed_at.get(int(pid)))
                open_bodies[key] = body
                found.append(body)
            elif key in open_bodies:
                open_bodies.pop(key).end = float(at)
        for body in open_bodies.values():
            # taskiq-redis ends a worker's child when its connection breaks, without our doing;
            # how long its bodies lived nobody knows.
            if body.end is None and not Path(f"/proc/{body.pid}").exists():
                body.end = body.begin
        return found


@dataclass
class Body:
    """One execution of user code; ``end`` is None while it runs."""

    unit: str
    pid: int
    begin: float
    end: float | None


@contextmanager
def cluster(directory: Path, *options: str, **settings: str) -> Iterator[Cluster]:
    names = {f"CHAOS_{name.upper()}": value for name, value in settings.items()}
    made = Cluster(directory, {**os.environ, **names}, options)
    made.environment["CHAOS_LOG"] = str(made.log)
    made.environment["PYTHONPATH"] = os.pathsep.join((str(LEAN), str(ROOT), str(ROOT / "src")))
    try:
        yield made
    finally:
        made.close()


def overlaps(bodies: list[Body]) -> list[tuple[Body, Body]]:
    """Pairs of executions of one unit that were going at the same time."""
    ordered = sorted(bodies, key=lambda body: (body.unit, body.begin))
    return [
        (earlier, later)
        for earlier, later in pairwise(ordered)
        if earlier.unit == later.unit and (earlier.end is None or later.begin < earlier.end)
    ]


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition; fail with what was waited for."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.05)


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(c) for child in children for c in (child, *map(str, _descendants(int(child))))]
