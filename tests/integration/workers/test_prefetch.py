"""A worker that takes more messages than it runs: what waits in its memory grows old unharmed."""

import asyncio
from collections import Counter

from taskiq_flow import Pipeline, PipelineTask
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import READY_LINE, App, Client, eventually

IMPATIENT = {"lease_seconds": 2.0, "kick_seconds": 0.5}
"""What has not begun half a second after its message went out is sent again."""

GREEDY = ("--max-async-tasks", "1", "--max-prefetch", "50")

RUNS = 12
"""Of 0.3 s each: the last of them wait for several times the time of a message and of a lease."""


async def start_runs(client: Client) -> dict[str, PipelineTask[str]]:
    """Start runs of one step, by what tells their notes apart."""
    lengths = [0.3 + number / 1000 for number in range(RUNS)]
    pipeline = Pipeline(client.broker, client["pause"])
    return {str(length): await pipeline.kiq(length) for length in lengths}


def begun(app: App) -> Counter[str]:
    return Counter(note.key for note in app.journal.notes("pause", "began"))


async def test_messages_that_wait_in_a_workers_memory_are_run_once_by_whoever_is_first(
    make_app: MakeApp,
) -> None:
    """What waits there is sent again when it is old; the second message finds nothing to do."""
    app = make_app(**IMPATIENT)
    workers = [app.spawn(*GREEDY), app.spawn("--max-async-tasks", "1")]
    for worker in workers:
        await worker.has_logged(READY_LINE)

    async with app.client() as client:
        runs = await start_runs(client)
        await asyncio.gather(*(run.wait_result(timeout=30) for run in runs.values()))
        statuses = [await run.get_status() for run in runs.values()]

    began = app.journal.notes("pause", "began")
    steps = [step for status in statuses for step in status.steps]
    assert Counter(note.key for note in began) == Counter(dict.fromkeys(runs, 1))
    assert began[-1].at - began[0].at > IMPATIENT["kick_seconds"]
    assert len({note.pid for note in began}) == 2
    assert {(step.retry_count, step.lost_count) for step in steps} == {(0, 0)}


async def test_messages_that_die_with_a_worker_are_not_lost(make_app: MakeApp) -> None:
    """The list broker has given them out and forgotten them; only what ran is begun again."""
    app = make_app(**IMPATIENT)
    greedy = await app.start(*GREEDY)

    async with app.client() as client:
        runs = await start_runs(client)
        await eventually(lambda: begun(app).total() >= 2)
        greedy.kill()
        began_before = begun(app)
        ended_before = {note.key for note in app.journal.notes("pause", "ended")}
        await app.start("--max-async-tasks", "10")
        await asyncio.gather(*(run.wait_result(timeout=30) for run in runs.values()))

    cut_off = set(began_before) - ended_before
    assert len(cut_off) <= 1
    assert begun(app) == Counter({key: 1 + (key in cut_off) for key in runs})
