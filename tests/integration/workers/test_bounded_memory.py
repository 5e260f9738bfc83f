"""A worker needs memory for what is in flight, and not for the whole job."""

from pathlib import Path

import pytest

from taskiq_flow import Pipeline
from tests.integration.workers.conftest import MakeApp


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had since it was last asked, which starts anew."""
    status = (Path("/proc") / str(pid) / "status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    (Path("/proc") / str(pid) / "clear_refs").write_text("5")
    return int(peak.split()[1]) * 1024


@pytest.mark.slow
async def test_a_map_over_a_stream_takes_no_more_memory_when_it_is_twenty_times_as_long(
    make_app: MakeApp,
) -> None:
    """The step before the map is an async generator, whose items are stored as they come."""
    app = make_app()
    worker = await app.start()
    (pid,) = worker.child_pids

    async with app.client() as client:
        pipeline = Pipeline(client.broker, client["stream"]).map(client["square"], max_parallel=8)

        async def peak_of(items: int) -> int:
            task = await pipeline.kiq(items)
            result = await task.wait_result(timeout=120)
            assert result.return_value[-1] == (items - 1) ** 2
            assert len(result.return_value) == items
            return peak_bytes(pid)

        await peak_of(1_000)
        short = await peak_of(1_000)
        long = await peak_of(20_000)

    assert long < 1.15 * short
