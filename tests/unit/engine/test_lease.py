"""Who waits for the work under a lease hears of its end, also of one that never began."""

import asyncio

from taskiq_flow.engine.lease import Lease, now_monotonic
from taskiq_flow.model.records import Address, Grant


async def test_stopping_work_that_had_not_begun_wakes_whoever_waits_for_its_end() -> None:
    grant = Grant(Address("run", 0, 0), "token", b"", (), 0, 0, 0.0, 0.0, 0.0, "")
    lease = Lease.taken(grant, now_monotonic(), asyncio.get_running_loop())
    begun: list[bool] = []

    async def work() -> None:
        begun.append(True)

    lease.child = asyncio.get_running_loop().create_task(work())  # type: ignore[assignment]
    lease.stop()
    async with asyncio.timeout(10):
        await lease.ended

    assert lease.child.cancelled()
    assert begun == []
