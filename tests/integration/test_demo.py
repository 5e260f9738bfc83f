"""The main demo, run as its user runs it: killed at any moment, it goes on where it was."""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from examples.stdlib_report.job import STOPPED, Job
from examples.stdlib_report.measure import measure_file
from examples.stdlib_report.progress import MEASURES
from examples.stdlib_report.summary import Summary, summarise
from examples.stdlib_report.tasks import LOG_VARIABLE, discover
from taskiq_flow.codec import decode
from taskiq_flow.plan import load_plan
from taskiq_flow.stores.factory import make_store
from tests.support.tree import LEAN, ROOT
from tools.servers import RedisServer
from tools.serving.keeper import is_alive, tree
from tools.serving.processes import wait_until

LIMIT = 80
LONG = os.environ.get("TASKIQ_FLOW_CHAOS") == "long"
KILLS = 3 if LONG else 1

only_long = pytest.mark.skipif(not LONG, reason="`make chaos` runs it: it starts many processes")

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(400)]


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo in a directory of its own: its state, its report, and what it has measured."""

    directory: Path
    limit: int = LIMIT
    dashboard: bool = False

    @property
    def job(self) -> Job:
        return Job(target=self.directory, limit=self.limit)

    def measured(self) -> list[str]:
        """The files that were measured, in order, those measured twice twice."""
        log = self.directory / "measured.log"
        return log.read_text().splitlines() if log.exists() else []

    @contextmanager
    def started(
        self, *arguments: str, module: str = "", env: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run it in a process group of its own, which does not outlive the block."""
        pages = [] if self.dashboard or module else ["--no-dashboard"]
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", f"examples.stdlib_report{module}"),
                    *("--directory", str(self.directory), "--limit", str(self.limit)),
                    *(*pages, *arguments),
                ],
                cwd=ROOT,
                env={
                    **os.environ,
                    **(env or {}),
                    "PYTHONPATH": os.pathsep.join(
                        ([] if self.dashboard else [str(LEAN)]) + [str(ROOT / "src"), str(ROOT)]
                    ),
                    LOG_VARIABLE: str(self.directory / "measured.log"),
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, *arguments: str, module: str = "", env: Mapping[str, str] | None = None) -> str:
        """Run it to its end and return what it said."""
        with self.started(*arguments, module=module, env=env) as process:
            process.wait(timeout=200)
        assert process.returncode == 0, self.said()
        return self.said()

    def run_until(self, condition: Callable[[], bool]) -> str:
        """Run it until a condition holds, SIGKILL all its processes, and return what it said."""
        with self.started() as process:
            wait_until(lambda: condition() or process.poll() is not None, timeout_seconds=100)
            assert condition(), self.said()
        return self.said()

    def said(self) -> str:
        """What it said since it was started last."""
        return self._output.read_text()

    @property
    def _output(self) -> Path:
        return self.directory / "said.log"

    async def recorded(self) -> set[str]:
        """The files whose measure the store has."""
        store = make_store(f"sqlite:///{self.directory / 'runs.sqlite'}")
        await store.open()
        try:
            run_id = await store.find(self.job.name)
            if run_id is None:
                return set()
            plan = load_plan(await store.plan(run_id) or b"")
            step = next(i for i, each in enumerate(plan.steps) if each.name == MEASURES)
            entries = await store.items(run_id, step, 0, LIMIT)
        finally:
            await store.close()
        return {decode(entry[1:])["path"] for entry in entries if entry is not None}


def expected(job: Job) -> Summary:
    """The same measures, one after the other in this process."""
    files = discover.original_func(str(job.root), job.limit)
    return summarise(measure_file(job.root, path) for path in files)


def in_json(summary: Summary) -> object:
    return json.loads(json.dumps(asdict(summary)))


@pytest.mark.parametrize("seed", [20251121])
def test_killed_it_ends_with_the_right_report_and_repeats_no_finished_file(
    tmp_path: Path, seed: int
) -> None:
    demo = Demo(tmp_path)
    chance = random.Random(seed)
    finished: set[str] = set()

    for _ in range(KILLS):
        before = demo.measured()
        moment = len(before) + chance.randint(LIMIT // 8, LIMIT // 4)
        said = demo.run_until(lambda moment=moment: len(demo.measured()) >= moment)
        assert finished.isdisjoint(demo.measured()[len(before) :])
        assert_it_says_what_was_done(said, len(finished), is_first=not before)
        finished = asyncio.run(demo.recorded())
    before = demo.measured()
    said = demo.run()

    assert finished
    assert finished.isdisjoint(demo.measured()[len(before) :])
    assert_it_says_what_was_done(said, len(finished), is_first=False)
    summary = expected(demo.job)
    assert len(set(demo.measured())) == LIMIT == summary.all.files
    assert json.loads((demo.directory / "report.json").read_text()) == in_json(summary)
    assert f"{summary.all.lines:,}" in (demo.directory / "report.html").read_text()
    assert str(demo.directory / "report.html") in said


def assert_it_says_what_was_done(said: str, finished: int, *, is_first: bool) -> None:
    told = re.search(r"resumed run …\w+: (\w+) of", said)
    if is_first:
        assert told is None
    else:
        assert told is not None, said
        assert int(told[1]) == finished


def test_after_its_end_it_starts_afresh_and_the_page_needs_nothing_else(tmp_path: Path) -> None:
    demo = Demo(tmp_path, limit=5, dashboard=True)

    first, second = demo.run(), demo.run()

    assert "resumed" not in first + second
    assert re.search(r"watch it: http://127\.0\.0\.1:\d+/\S*token=", first)
    assert len(demo.measured()) == 10
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"(?:src|href)=|url\(|@import|https?://", page)


@only_long
def test_killed_alone_it_leaves_no_process_behind_and_can_be_started_anew(tmp_path: Path) -> None:
    demo = Demo(tmp_path, limit=20)

    with demo.started() as process:
        assert wait_until(lambda: len(demo.measured()) >= 5, timeout_seconds=100)
        family = tree(process.pid)
        process.kill()
        process.wait()

        assert len(family) > 1
        assert wait_until(lambda: not any(map(is_alive, family)), timeout_seconds=20)
    done = len(demo.measured())

    assert "resumed" not in demo.run("--fresh")
    assert len(demo.measured()) == done + 20


@only_long
def test_stopped_by_ctrl_c_it_says_so_and_goes_on_at_the_next_start(tmp_path: Path) -> None:
    demo = Demo(tmp_path, limit=60)

    with demo.started() as process:
        assert wait_until(lambda: len(demo.measured()) >= 5, timeout_seconds=100)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)

    assert process.returncode == STOPPED
    assert "Stopped." in demo.said()
    assert "resumed" in demo.run()


@only_long
def test_on_redis_the_other_worker_takes_over_from_one_that_was_killed(
    tmp_path: Path, own_redis: RedisServer
) -> None:
    demo = Demo(tmp_path, limit=60)

    said = demo.run("--kill-a-worker", module=".on_redis", env={"REDIS_URL": own_redis.url})

    assert "killed worker" in said
    summary = expected(demo.job)
    assert json.loads((tmp_path / "report.json").read_text()) == in_json(summary)
