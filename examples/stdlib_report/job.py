"""Starts the job or goes on with it, and shows it until it has ended."""

from __future__ import annotations

import asyncio
import logging
import platform
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taskiq import AsyncBroker

from examples.stdlib_report.progress import Progress, duration, resumed
from examples.stdlib_report.screen import Heading, Screen
from examples.stdlib_report.tasks import report_pipeline
from taskiq_flow import (
    PipelineError,
    PipelineStatus,
    PipelineTask,
    RunNotFoundError,
    Task,
)

LOOK_SECONDS = 0.15
"""How often the screen asks how far the run is."""


STOPPED = 130
"""The exit code after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be measured, where the report goes, and how many files at once."""

    target: Path
    limit: int | None = None
    most_at_once: int = 4
    root: Path = Path(sysconfig.get_path("stdlib"))

    @property
    def name(self) -> str:
        """The name of its runs: jobs that differ in what they measure are not each other's."""
        sample = f"-{self.limit}" if self.limit else ""
        return f"stdlib-report-{platform.python_version()}{sample}"

    @property
    def title(self) -> str:
        return f"Taskiq-Flow · the standard library of Python {platform.python_version()}"


async def start_or_resume(
    broker: AsyncBroker, job: Job, *, afresh: bool
) -> tuple[PipelineTask[dict[str, object]], PipelineStatus | None]:
    """Go on with the run of this job that has not ended, or start one.

    Returns a handle and, for a run that it goes on with, how that stood. ``afresh`` cancels it.
    """
    latest = Task(job.name, broker)
    try:
        status = await latest.get_status()
    except RunNotFoundError:
        status = None
    if status is not None and not status.is_finished():
        if not afresh:
            return latest, status
        await latest.cancel("started afresh")
    pipeline = report_pipeline(broker, job.name, most_at_once=job.most_at_once)
    task = await pipeline.kiq(root=str(job.root), limit=job.limit, target=str(job.target))
    return task, None


async def run(
    broker: AsyncBroker,
    job: Job,
    screen: Screen,
    heading: Heading,
    progress: Progress,
    *,
    afresh: bool = False,
    on_look: Callable[[Progress], None] | None = None,
) -> int:
    """Bring the job to its end and return an exit code; the broker has been started."""
    # The screen says what is to be said; without a handler logs would go to the terminal too.
    for name in ("taskiq", "taskiq_flow"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    began = time.monotonic()
    screen.begin(heading)
    try:
        task, before = await start_or_resume(broker, job, afresh=afresh)
        if before is not None:
            progress.note(before, time.monotonic())
            progress.earlier = progress.done or 0
            screen.say(resumed(before))
        ended = asyncio.ensure_future(task.wait_result(raise_on_error=False))
        while not ended.done():
            await _look(task, screen, progress, on_look)
            await asyncio.wait({ended}, timeout=LOOK_SECONDS)
        await _look(task, screen, progress, on_look)
    finally:
        screen.end()
    result = ended.result()
    if result.is_err:
        screen.say(_failure(result.error))
        return 1
    done, took = (progress.total or 0) - progress.earlier, duration(time.monotonic() - began)
    earlier = f"; {progress.earlier:,} were done before" if progress.earlier else ""
    screen.say(f"measured {done:,} files in {took}{earlier}")
    screen.say(f"report: {result.return_value['report']}")
    return 0


async def _look(
    task: PipelineTask[dict[str, object]],
    screen: Screen,
    progress: Progress,
    on_look: Callable[[Progress], None] | None,
) -> None:
    progress.note(await task.get_status(), time.monotonic())
    screen.show(progress)
    if on_look is not None:
        on_look(progress)


def _failure(error: BaseException | None) -> str:
    kind = "" if isinstance(error, PipelineError) else f"{type(error).__name__}: "
    return f"the run failed: {kind}{error}"
