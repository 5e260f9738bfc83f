"""The four tasks of the job, and the pipeline that they make.

They are Taskiq's shared tasks: any broker can run them, the one in this process and the ones of
workers on Redis alike.
"""

from __future__ import annotations

import json
import os
import platform
import zlib
from dataclasses import asdict
from pathlib import Path

from taskiq import AsyncBroker, async_shared_broker

from examples.stdlib_report.measure import FileMeasure, measure_file
from examples.stdlib_report.report import Origin, render
from examples.stdlib_report.summary import Summary, summarise
from taskiq_flow import DataflowPipeline, PipelineContext, pipeline_task

LOG_VARIABLE = "STDLIB_REPORT_LOG"
"""Names a file that gets a line for each file that is measured: what the tests count by."""

_NOT_OF_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}


@async_shared_broker.task
@pipeline_task(output="files")
def discover(root: str, limit: int | None) -> list[str]:
    """List the source files under a directory, the same ones in the same order every time."""
    paths = (path.relative_to(root) for path in Path(root).rglob("*.py"))
    found = [path.as_posix() for path in paths if not _NOT_OF_THE_LIBRARY & set(path.parts)]
    # In an order that mixes packages and sizes: progress is even, and the first n are a sample.
    return sorted(found, key=lambda path: (zlib.crc32(path.encode()), path))[:limit]


@async_shared_broker.task
def measure(path: str, root: str) -> FileMeasure:
    """Measure one file; the heavy step, run in a process of its own for each core."""
    log = os.environ.get(LOG_VARIABLE)
    if log:
        with Path(log).open("a", encoding="utf-8") as lines:
            lines.write(f"{path}\n")
    return measure_file(Path(root), path)


@async_shared_broker.task
def put_together(measures: list[FileMeasure]) -> Summary:
    """Make one summary of all measures."""
    return summarise(measures)


@async_shared_broker.task
@pipeline_task(output="report")
def write_report(summary: Summary, root: str, target: str, context: PipelineContext) -> str:
    """Write the report and, beside it for programs, its numbers; return the report's path."""
    origin = Origin(
        python=platform.python_version(),
        root=root,
        run=context.run_id[-8:],
        started=f"{context.started_at.astimezone():%d %B %Y at %H:%M}",
    )
    page = Path(target) / "report.html"
    _replace(page, render(summary, origin))
    _replace(page.with_suffix(".json"), json.dumps(asdict(summary), indent=1))
    return str(page)


def report_pipeline(broker: AsyncBroker, name: str, *, most_at_once: int) -> DataflowPipeline:
    """The whole job: discover → measure each file → put together → write the report.

    Runs are started with ``root``, ``limit`` and ``target``. While one of this name has not ended,
    there cannot be a second.
    """
    pipeline = DataflowPipeline(broker, pipeline_id=name).with_name("stdlib-report")
    pipeline.add_dataflow_task(discover)
    pipeline.map(measure, "files", output="measures", max_parallel=most_at_once)
    pipeline.reduce(put_together, "measures", output="summary")
    pipeline.add_dataflow_task(write_report)
    return pipeline


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all: whoever kills us leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}.part")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
