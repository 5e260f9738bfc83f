"""A stall is what the event loop was kept from its work for, less what the machine took from it."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

from benchmarks.stalls import Stalls, denied, host_share, spent

PROCESSORS = """\
cpu  700 0 100 200 0 0 0 {all} 0 0
cpu0 400 0 50 100 0 0 0 {first} 0 0
cpu1 300 0 50 100 0 0 0 {second} 0 0
intr 123 0 0
ctxt 99
"""


def _say(processors: Path, first: int, second: int) -> None:
    text = PROCESSORS.format(all=first + second, first=first, second=second)
    processors.write_text(text, encoding="ascii")


def test_waits_for_a_processor_and_what_the_host_took_of_each_are_read(tmp_path: Path) -> None:
    waited, processors = tmp_path / "schedstat", tmp_path / "stat"
    waited.write_text("5000000000 250000000 77\n", encoding="ascii")
    _say(processors, 30, 41)

    with denied(str(waited), str(processors)) as read:
        assert read() == (0.25, 0.30, 0.41)
        _say(processors, 38, 41)
        assert read() == (0.25, 0.38, 0.41)


def test_where_nobody_counts_nothing_is_left_out(tmp_path: Path) -> None:
    with denied(str(tmp_path / "none"), str(tmp_path / "none")) as read:
        stalls = Stalls()
        stalls.take(0.07, 0.01, read(), read())

    assert (stalls.longest, stalls.by_clock) == (0.07, 0.07)
    assert host_share(spent(str(tmp_path / "none")), ()) == "not known"


def test_the_greatest_thing_that_was_denied_is_left_out_and_not_the_sum() -> None:
    stalls = Stalls()

    stalls.take(0.080, 0.020, (1.000, 2.00, 3.00), (1.030, 2.05, 3.02))
    assert round(stalls.longest, 6) == 0.030

    stalls.take(0.040, 0.020, (1.030, 2.05, 3.02), (1.030, 2.05, 3.02))
    assert (round(stalls.longest, 6), round(stalls.by_clock, 6)) == (0.040, 0.080)


def test_what_the_thread_has_worked_itself_is_never_left_out() -> None:
    stalls = Stalls()

    stalls.take(0.080, 0.055, (0.0, 0.0), (0.0, 0.079))

    assert stalls.longest == 0.055


def test_the_host_has_its_share_of_what_all_processors_spent(tmp_path: Path) -> None:
    processors = tmp_path / "stat"
    _say(processors, 0, 0)
    before = spent(str(processors))
    _say(processors, 3, 1)

    assert host_share(before, (*[each + 12 for each in before[:-1]], 16)) == (
        "16.0% of the processors' time"
    )
    assert host_share(before, spent(str(processors))) == "100.0% of the processors' time"


async def test_a_loop_that_works_and_a_collector_that_looks_are_seen() -> None:
    async with Stalls() as stalls:
        await asyncio.sleep(0.02)
        began = time.thread_time()
        while time.thread_time() < began + 0.06:  # by its own time: nobody can take that from it
            pass
        gc.collect()
        await asyncio.sleep(0.02)

    assert 0.06 <= stalls.longest <= stalls.by_clock
    assert stalls.collecting > 0
