"""The real engine, on virtual time, through thousands of schedules of faults: no promise breaks.

A failing seed is replayed with ``python -m taskiq_flow.testing.simulation --seed N --trace``.
"""

import asyncio
import itertools
from unittest.mock import patch

import pytest

from taskiq_flow.engine.recovery import Recovery
from taskiq_flow.testing.simulation import Fault, Setting, parse_faults, simulate

CHUNKS, SEEDS = 40, 50
"""2,000 schedules with every kind of fault on, in pieces that share the cores."""

ENDLESS = "A schedule comes to its end"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_promise_holds_with_all_faults_on(chunk: int) -> None:
    for seed in range(chunk * SEEDS, (chunk + 1) * SEEDS):
        report = simulate(seed, parse_faults("all"))

        assert report.ok, f"seed {seed}: {report}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["none", *Fault])
def test_every_promise_holds_with_one_kind_of_fault(fault: str) -> None:
    for seed in range(10):
        report = simulate(seed, parse_faults(fault))

        assert report.ok, f"seed {seed} with {fault}: {report}"


def test_a_schedule_that_goes_on_for_too_long_counts_as_broken() -> None:
    report = simulate(0, setting=Setting(most_callbacks=500))

    assert [violation.promise for violation in report.violations] == [ENDLESS]


async def spin(self: Recovery) -> None:
    for _ in itertools.count():
        await asyncio.sleep(0)


def test_a_schedule_in_which_time_stands_still_counts_as_broken() -> None:
    with patch.object(Recovery, "run", spin):
        report = simulate(0)

    assert [violation.promise for violation in report.violations] == [ENDLESS]
