"""Runs the same job on the Redis at REDIS_URL, with real `taskiq worker` processes.

    python -m examples.stdlib_report.on_redis [--workers 2] [--kill-a-worker]

With --kill-a-worker one of them gets SIGKILL in the middle, and the others take over its files.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from examples.stdlib_report.cores import CoreMeter
from examples.stdlib_report.job import STOPPED, Job, run
from examples.stdlib_report.progress import Progress
from examples.stdlib_report.redis_broker import URL, broker
from examples.stdlib_report.screen import Heading, Screen, make_screen

KILL_AT = 0.4
"""At which share of the files --kill-a-worker kills one."""

_WORKER = (
    sys.executable,
    *("-m", "taskiq", "worker", "--workers", "1", "--log-level", "WARNING"),
    "examples.stdlib_report.redis_broker:broker",
    "examples.stdlib_report.tasks",
)
# Whatever ends this process closes the pipe, and with it the worker ends in the orderly way.
_UNTIL_PIPE_CLOSES = '"$@" & read _; kill $!; wait'


@contextmanager
def worker(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A `taskiq worker` process that is stopped at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the command is the constant above
            ["/bin/sh", "-c", _UNTIL_PIPE_CLOSES, "sh", *_WORKER],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait()


class WorkerKiller:
    """Kills one worker once, in the middle of the job, and says so."""

    def __init__(self, victim: subprocess.Popen[bytes], screen: Screen) -> None:
        self._victim, self._screen = victim, screen

    def __call__(self, progress: Progress) -> None:
        done, total = progress.done, progress.total
        if not done or not total or done < KILL_AT * total or self._victim.poll() is not None:
            return
        os.killpg(self._victim.pid, signal.SIGKILL)
        self._victim.wait()
        self._screen.say(
            f"killed worker {self._victim.pid} with SIGKILL at {done:,} of {total:,} files: "
            "the others go on, and take over what it had in hand"
        )


async def demo(options: argparse.Namespace) -> int:
    directory = options.directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    job = Job(target=directory, limit=options.limit, most_at_once=2 * options.workers)
    log = directory / "workers.log"
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(log)) for _ in range(options.workers)]
        pids = [each.pid for each in workers]
        heading = Heading(
            title=job.title,
            facts=(
                ("files", str(job.root), ""),
                ("state", URL, "has every finished file"),
                ("workers", f"{len(pids)} of `taskiq worker`", f"log in {log}"),
                ("kill one", f"kill -9 -{pids[-1]}", "at any moment; the others go on"),
            ),
        )
        screen = make_screen(Console(), CoreMeter(*pids))
        killer = WorkerKiller(workers[0], screen) if options.kill_a_worker else None
        await broker.startup()
        try:
            return await run(
                broker, job, screen, heading, Progress(), afresh=options.fresh, on_look=killer
            )
        finally:
            await broker.shutdown()


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.stdlib_report.on_redis",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--fresh", action="store_true", help="give up a run that has not ended, and start anew"
    )
    parser.add_argument("--limit", type=int, help="measure a sample of so many files only")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("demo-output"),
        help="where the report and the workers' log go (%(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=max(2, os.cpu_count() or 1),
        help="how many worker processes to start (%(default)s)",
    )
    parser.add_argument(
        "--kill-a-worker", action="store_true", help="kill one of them in the middle"
    )
    return parser.parse_args(arguments)


def main() -> int:
    try:
        return asyncio.run(demo(parse(sys.argv[1:])))
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped. The run goes on as soon as there are workers.")
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
