"""Results that workers share: one computes, the others wait, and one takes over from the dead."""

import asyncio
import time

from taskiq_flow import Pipeline
from tests.integration.apps.bounded import STUCK, register_bounded
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import eventually


async def test_one_worker_computes_and_another_takes_over_when_it_dies(make_app: MakeApp) -> None:
    app = make_app()
    workers = await asyncio.gather(*(app.start(module="limited") for _ in range(3)))

    async with app.client() as client:
        register_bounded(client.broker)
        pipeline = Pipeline(client.broker, client["costly"])
        runs = [await pipeline.kiq(STUCK) for _ in range(6)]
        mapped = await Pipeline(client.broker).map(client["costly"], ["a", "b"] * 6).kiq()

        assert (await mapped.wait_result(timeout=60)).return_value == ["A", "B"] * 6
        await eventually(lambda: any(n.key == STUCK for n in app.journal.notes("costly", "began")))
        holder = next(n for n in app.journal.notes("costly", "began") if n.key == STUCK).pid
        next(worker for worker in workers if holder in worker.child_pids).kill()
        died_at = time.time()
        results = [(await run.wait_result(timeout=60)).return_value for run in runs]
        again = await (await pipeline.kiq(STUCK)).wait_result(timeout=60)

    assert [*results, again.return_value] == [STUCK.upper()] * 7
    notes = app.journal.notes("costly")
    ended = sorted(note.key for note in notes if note.what == "ended")
    assert ended == ["a", "b", STUCK]
    began = [note for note in notes if note.what == "began" and note.key == STUCK]
    assert len(began) == 2
    assert began[1].pid != holder
    assert began[1].at > died_at
