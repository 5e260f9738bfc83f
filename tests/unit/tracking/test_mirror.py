"""A mirror saves what is newest, as often as makes sense, and gives way when it cannot."""

import asyncio
import time
from typing import Any

import pytest

from taskiq_flow.tracking import InMemoryPipelineStorage, PipelineStatus
from taskiq_flow.tracking import mirror as mirror_module
from taskiq_flow.tracking.mirror import Mirror
from tests.integration.workers.harness import eventually


class Source:
    """Runs whose records change with every look."""

    def __init__(self) -> None:
        self.looks = 0

    async def status(self, run_id: str, *, values: bool = True) -> PipelineStatus | None:
        self.looks += 1
        if run_id == "gone":
            return None
        return PipelineStatus(pipeline_id=run_id, status="RUNNING", steps_left=self.looks)


class Counting(InMemoryPipelineStorage):
    """Counts how often each run was saved; fails for runs of some names."""

    def __init__(self, *, seconds: float = 0.0, refused: str = "") -> None:
        super().__init__()
        self.saved: list[str] = []
        self.seconds, self._refused = seconds, refused

    async def save_status(self, status: PipelineStatus) -> None:
        await asyncio.sleep(self.seconds)
        if status.pipeline_id == self._refused:
            raise ValueError("this one cannot be saved")
        self.saved.append(status.pipeline_id)


async def test_changes_that_come_faster_than_the_storage_are_saved_as_one() -> None:
    source: Any = Source()
    storage = Counting(seconds=0.02)
    mirror = Mirror(storage)

    for _ in range(100):
        mirror.mark("a", source)
        await asyncio.sleep(0)
    await mirror.settle("a", source)

    assert len(storage.saved) <= 3
    await mirror.close()


async def test_a_run_that_goes_on_is_not_saved_all_the_time() -> None:
    """A long one would be copied as often as it has steps."""
    source: Any = Source()
    storage = Counting(seconds=0.01)
    mirror = Mirror(storage)

    until = time.monotonic() + 0.6
    while time.monotonic() < until:
        mirror.mark("a", source)
        await asyncio.sleep(0.001)

    assert 2 <= len(storage.saved) <= 0.6 / 0.05
    await mirror.close()


async def test_one_record_that_cannot_be_saved_does_not_hold_up_the_others() -> None:
    source: Any = Source()
    storage = Counting(refused="bad")
    mirror = Mirror(storage)

    for run_id in ("bad", "a", "bad", "b", "gone"):
        mirror.mark(run_id, source)

    await eventually(lambda: storage.saved == ["a", "b"])
    await mirror.close()


async def test_so_many_runs_wait_and_no_more() -> None:
    source: Any = Source()
    mirror = Mirror(Counting(seconds=60), waiting_most=10)

    for number in range(1000):
        mirror.mark(str(number), source)

    assert mirror.dropped == 990
    await mirror.close()


async def test_a_storage_that_hangs_once_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "SAVE_SECONDS", 0.05)
    source: Any = Source()
    storage = Counting(seconds=60)
    mirror = Mirror(storage)
    mirror.mark("a", source)
    await eventually(lambda: source.looks == 1)

    storage.seconds = 0.0

    await eventually(lambda: storage.saved == ["a"])
    await mirror.close()


async def test_nobody_waits_for_a_storage_that_is_known_to_hang() -> None:
    source: Any = Source()
    mirror = Mirror(Counting(seconds=60))
    await mirror.settle("a", source)
    began = time.monotonic()

    for _ in range(20):
        await mirror.settle("a", source)

    assert time.monotonic() - began < 1
    await mirror.close()
