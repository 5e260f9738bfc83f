"""Reads from the store, after the chaos, how the runs ended and what was recorded."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from taskiq_flow.engine.results import RunResults
from taskiq_flow.events import EventType
from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.base import RunStore, StoreOptions
from taskiq_flow.stores.factory import make_store


@dataclass(frozen=True)
class Started:
    number: int
    run_id: str
    expected: str


def read_started(path: Path) -> list[Started]:
    """The runs whose ``kiq`` had returned; a line cut by a kill is none."""
    found: list[Started] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        parts = line.split("\t")
        if len(parts) == 3:
            found.append(Started(int(parts[0]), parts[1], parts[2]))
    return found


@dataclass(frozen=True)
class Verdict:
    """What went wrong, by run id; empty when all is well."""

    not_ended: list[str]
    wrong: dict[str, str]
    recorded_twice: dict[str, list[int]]


def judge(url: str, namespace: str, runs: list[Started]) -> Verdict:
    return _in_thread(_judge(url, namespace, runs))


def ended(url: str, namespace: str, runs: list[Started]) -> int:
    """How many of the runs have ended; 0 while the store is away."""

    async def ask() -> int:
        store = await _open(url, namespace)
        try:
            return len(await store.ended_among([run.run_id for run in runs]))
        finally:
            await store.close()

    try:
        return _in_thread(ask())
    except ConnectionError:
        return 0


async def _judge(url: str, namespace: str, runs: list[Started]) -> Verdict:
    store = await _open(url, namespace)
    results = RunResults(store)
    not_ended: list[str] = []
    wrong: dict[str, str] = {}
    twice: dict[str, list[int]] = {}
    for run in runs:
        outcome = await results.outcome(run.run_id)
        if outcome is None:
            not_ended.append(run.run_id)
            continue
        if outcome.snapshot.status is not RunStatus.COMPLETED:
            wrong[run.run_id] = repr(outcome.as_error())
        elif repr(outcome.value) != run.expected:
            wrong[run.run_id] = f"{outcome.value!r} instead of {run.expected}"
        events = await store.events(run.run_id)
        counts = Counter(event.step for event in events if event.type is EventType.STEP_COMPLETED)
        repeated = [step for step, count in counts.items() if step is not None and count != 1]
        if repeated or [event.seq for event in events] != list(range(1, len(events) + 1)):
            twice[run.run_id] = repeated
    await store.close()
    return Verdict(not_ended, wrong, twice)


async def _open(url: str, namespace: str) -> RunStore:
    store = make_store(url, StoreOptions(namespace=namespace))
    await store.open()
    return store


def _in_thread(work):  # type: ignore[no-untyped-def]
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
