"""Hints on how much a machine has room for, and the places of a process in all its loops."""

import asyncio
import os
import re
import threading
from typing import Any

import pytest

from taskiq_flow.dataflow import pipeline_task
from taskiq_flow.dataflow.options import options_of
from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.optimization import (
    ResourceAwareExecutor,
    TaskResourceProfile,
    get_default_executor,
)
from taskiq_flow.optimization.parallel import Room, lowest

CORES = os.cpu_count() or 1


def test_what_fits_follows_from_cores_and_memory() -> None:
    executor = ResourceAwareExecutor(max_cpu_percent=50, max_parallel=1000)

    assert executor.get_optimal_parallelism(task_cpu_estimate=0.01) == CORES * 50
    assert executor.get_optimal_parallelism(task_memory_estimate=10**9) == 1
    assert executor.get_optimal_parallelism(task_cpu_estimate=0) == 1000
    assert ResourceAwareExecutor(min_parallel=7).get_optimal_parallelism(10**9) == 7
    assert get_default_executor() is get_default_executor()


def test_a_task_that_waits_for_others_takes_no_core() -> None:
    waits = TaskResourceProfile(estimated_cpu_cores=4, io_bound=True)

    assert get_default_executor().parallelism_of(waits) == 100
    assert get_default_executor().parallelism_of(TaskResourceProfile(0, 10_000)) == 1


def test_a_profile_is_kept_with_its_task() -> None:
    profile = TaskResourceProfile(estimated_memory_mb=512, io_bound=True)

    options = options_of(pipeline_task(resources=profile)(lambda: 1))

    assert options.resources == {
        "estimated_memory_mb": 512,
        "estimated_cpu_cores": 1.0,
        "io_bound": True,
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_cpu_percent": 0}, "Max_cpu_percent must be above 0 and at most 100, not 0"),
        ({"max_memory_percent": 101}, "Max_memory_percent must be above 0"),
        ({"min_parallel": 0}, "Min_parallel must be 1 or more"),
        ({"min_parallel": 5, "max_parallel": 4}, "must not be below min_parallel (5), not 4"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTaskOptionError, match=re.escape(words)):
        ResourceAwareExecutor(**options)


def test_the_lowest_of_what_was_said_counts() -> None:
    assert (lowest(3, None, 2), lowest(None, None)) == (2, None)


async def test_places_are_given_in_order_and_taken_by_nobody_who_went_away() -> None:
    room, order = Room(most=1), list[int]()
    assert room.try_enter(asyncio.get_running_loop())

    async def wait(number: int) -> None:
        await room.enter()
        order.append(number)
        room.leave(asyncio.get_running_loop())

    waiting = [asyncio.ensure_future(wait(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert not room.try_enter(asyncio.get_running_loop())
    waiting[1].cancel()
    await asyncio.sleep(0)
    room.leave(asyncio.get_running_loop())
    # This one is called and cancelled in the same turn: its place must go to the next.
    waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert order == [2, 3]
    assert room.try_enter(asyncio.get_running_loop())


async def test_places_are_shared_by_all_event_loops_of_a_process() -> None:
    room = Room(most=1)
    await room.enter()
    entered, go = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        await room.enter()
        entered.set()
        await asyncio.to_thread(go.wait)

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    assert not entered.wait(0.05)
    room.leave(asyncio.get_running_loop())
    assert await asyncio.to_thread(entered.wait, 10)

    assert not room.try_enter(asyncio.get_running_loop())
    go.set()
    thread.join(10)


def test_who_waited_in_a_loop_that_is_gone_keeps_nobody_waiting() -> None:
    room = Room(most=1)
    first, loop = asyncio.new_event_loop(), asyncio.new_event_loop()
    first.run_until_complete(room.enter())
    waiter = loop.create_task(room.enter())
    loop.run_until_complete(asyncio.sleep(0))
    waiter.cancel()
    loop.run_until_complete(asyncio.gather(waiter, return_exceptions=True))
    loop.close()

    room.leave(first)

    first.run_until_complete(asyncio.wait_for(room.enter(), timeout=10))
    first.close()


def test_a_place_that_was_cut_off_with_its_event_loop_is_free_again() -> None:
    """A loop that is closed over running steps, as by a server that restarts in one process."""
    room = Room(most=1)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(room.enter())
    loop.close()

    async def enter() -> bool:
        return room.try_enter(asyncio.get_running_loop())

    assert asyncio.run(enter())
