"""Limits between real workers, and in one: never more at once, and nobody's place is lost."""

import asyncio
import time
from collections.abc import Iterable

from taskiq_flow import Pipeline
from tests.integration.apps.bounded import STUCK, register_bounded
from tests.integration.apps.steps import Note
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import eventually


def peak(notes: Iterable[Note], dead: int = 0, died_at: float = 0.0) -> int:
    """How many calls ran at once; those of a process that died ended with it."""
    changes: list[tuple[float, int]] = []
    open_calls: dict[tuple[int, str], int] = {}
    for note in notes:
        begins = note.what == "began"
        changes.append((note.at, 1 if begins else -1))
        call = note.pid, note.key
        open_calls[call] = open_calls.get(call, 0) + (1 if begins else -1)
    changes += [
        (died_at, -1) for (pid, _), n in open_calls.items() if pid == dead for _ in range(n)
    ]
    now = most = 0
    # What ends in the same moment goes before what begins in it.
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


async def test_a_limit_holds_between_three_workers_and_a_dead_ones_place_comes_back(
    make_app: MakeApp,
) -> None:
    app = make_app()
    workers = await asyncio.gather(*(app.start(module="limited") for _ in range(3)))

    async with app.client() as client:
        register_bounded(client.broker)
        stuck = await Pipeline(client.broker, client["guarded"]).kiq(STUCK)
        await eventually(lambda: bool(app.journal.notes("guarded", "began")))
        holder = app.journal.notes("guarded", "began")[0].pid
        doomed = next(worker for worker in workers if holder in worker.child_pids)
        mapped = Pipeline(client.broker).map(client["guarded"], [f"item {n}" for n in range(12)])
        single = Pipeline(client.broker, client["guarded"])
        runs = [await mapped.kiq(), *[await single.kiq(f"run {number}") for number in range(12)]]
        await eventually(lambda: len(app.journal.notes("guarded", "ended")) >= 6)

        doomed.kill()
        died_at = time.time()
        for run in [stuck, *runs]:
            await run.wait_result(timeout=60)

        after = time.time()
        last = Pipeline(client.broker).map(client["guarded"], [f"late {n}" for n in range(9)])
        await (await last.kiq()).wait_result(timeout=60)

    notes = app.journal.notes("guarded")
    assert peak(notes, holder, died_at) == 3
    assert peak(note for note in notes if note.at >= after) == 3
    assert len({note.pid for note in notes}) == 3
    ended = [note.key for note in app.journal.notes("guarded", "ended")]
    assert set(ended) >= {
        STUCK,
        *(f"run {n}" for n in range(12)),
        *(f"item {n}" for n in range(12)),
    }


async def test_a_worker_keeps_to_what_a_map_a_run_and_its_process_allow(make_app: MakeApp) -> None:
    app = make_app()
    await app.start(module="limited", FLOW_APP_MOST="4")

    async with app.client() as client:
        register_bounded(client.broker)
        free = client["free"]

        mapped = (
            await Pipeline(client.broker)
            .map(free, [f"map {n}" for n in range(6)], max_parallel=3)
            .kiq()
        )
        await mapped.wait_result(timeout=60)
        bounded = (
            await Pipeline(client.broker, max_parallel=2)
            .map(free, [f"run {n}" for n in range(6)])
            .kiq()
        )
        await bounded.wait_result(timeout=60)
        many = [
            await Pipeline(client.broker).map(free, [f"process {n}.{m}" for m in range(4)]).kiq()
            for n in range(3)
        ]
        for run in many:
            await run.wait_result(timeout=60)

    notes = app.journal.notes("free")
    peaks = {
        word: peak(note for note in notes if note.key.startswith(word))
        for word in ("map", "run", "process")
    }
    assert peaks == {"map": 3, "run": 2, "process": 4}
