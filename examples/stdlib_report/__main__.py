"""Runs the job in this process, on all cores, with its state in an SQLite file.

    python -m examples.stdlib_report [--fresh] [--limit 200] [--directory demo-output]

Kill it at any moment and start it again: it goes on with the files that are left.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from taskiq import InMemoryBroker, async_shared_broker

from examples.stdlib_report.cores import CoreMeter
from examples.stdlib_report.job import STOPPED, Job, run
from examples.stdlib_report.measure import FileMeasure
from examples.stdlib_report.pages import dashboard_of
from examples.stdlib_report.progress import Progress
from examples.stdlib_report.screen import Heading, make_screen
from taskiq_flow import PipelineContext, PipelineMiddleware

LEASE_SECONDS = 2.0
"""How soon a start after a kill takes over what was in hand: this and as much again."""


class Watching(PipelineMiddleware):
    """The middleware, telling the screen of each file as soon as its measure is recorded."""

    def __init__(self, saw: Callable[[FileMeasure], None], **options: Any) -> None:
        super().__init__(**options)
        self._saw = saw

    async def on_step_complete(self, ctx: PipelineContext, result: Any) -> None:
        await super().on_step_complete(ctx, result)
        if isinstance(result, FileMeasure):
            self._saw(result)


def make_broker(state: Path, saw: Callable[[FileMeasure], None], *, cores: int) -> InMemoryBroker:
    """A broker in this process whose runs live in a file, and whose steps use these cores."""
    broker = InMemoryBroker()
    broker.add_middlewares(
        Watching(
            saw,
            store=f"sqlite:///{state}",
            executor="process",
            max_processes=cores,
            lease_seconds=LEASE_SECONDS,
        )
    )
    async_shared_broker.default_broker(broker)
    return broker


async def demo(options: argparse.Namespace) -> int:
    directory = options.directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    cores: int = options.cores
    job = Job(target=directory, limit=options.limit, most_at_once=2 * cores)
    state = directory / "runs.sqlite"
    progress = Progress()
    broker = make_broker(state, progress.saw, cores=cores)
    await broker.startup()
    try:
        async with dashboard_of(broker) if options.dashboard else nullcontext() as address:
            heading = Heading(
                title=job.title,
                facts=(
                    *((("watch it", address, ""),) if address else ()),
                    ("files", str(job.root), ""),
                    ("state", str(options.directory / state.name), "has every finished file"),
                    ("cores", f"{cores} processes", ""),
                    (
                        "kill it",
                        f"kill -9 {os.getpid()}",
                        "at any moment; start it again, it goes on",
                    ),
                ),
            )
            screen = make_screen(Console(), CoreMeter())
            return await run(broker, job, screen, heading, progress, afresh=options.fresh)
    finally:
        await broker.shutdown()


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.stdlib_report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--fresh", action="store_true", help="give up a run that has not ended, and start anew"
    )
    parser.add_argument("--limit", type=int, help="measure a sample of so many files only")
    parser.add_argument(
        "--no-dashboard", dest="dashboard", action="store_false", help="serve no pages beside it"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("demo-output"),
        help="where the state and the report go (%(default)s)",
    )
    parser.add_argument(
        "--cores", type=int, default=os.cpu_count() or 1, help="how many to use (%(default)s)"
    )
    return parser.parse_args(arguments)


def main() -> int:
    try:
        return asyncio.run(demo(parse(sys.argv[1:])))
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped. Start it again, and it goes on where it was.")
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
