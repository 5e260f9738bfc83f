"""What is ready to run begins, whichever comes first: the task, or the time to begin tasks."""

import asyncio
from contextvars import ContextVar
from typing import Any

from fastapi_taskflow.models import Executor, QueueConfig
from fastapi_taskflow.queues import STARTING_MOST, LocalQueues
from taskiq_flow.engine.routing import route_of
from taskiq_flow.model.records import Address, Ready

whose: ContextVar[str] = ContextVar("whose", default="nobody")


async def test_a_task_that_is_due_before_tasks_may_begin_does_not_wait_for_the_next_one() -> None:
    """As when an application starts: what an earlier process left may be due at once."""
    queues = LocalQueues({}, {"async": None, "thread": None, "process": None})
    ready = Ready(Address("run", 0, 0), "background", "", "task")
    begun: list[Ready] = []
    has_begun = asyncio.Event()

    async def begin(task: Ready) -> None:
        begun.append(task)
        has_begun.set()

    queues.put(ready, "async", since=0.0)
    queues.start(begin)
    queues.put(ready, "async", since=0.0)

    async with asyncio.timeout(10):
        await has_begun.wait()
    assert begun == [ready]


async def test_a_task_that_is_handed_over_twice_is_begun_once() -> None:
    """By the request that added it, and by recovery, while it waits or runs."""
    queues = LocalQueues({}, {"async": 1, "thread": None, "process": None})
    first, second = (Ready(Address(name, 0, 0), "background", "", "task") for name in "ab")
    begun: list[str] = []
    may_end, is_over = asyncio.Event(), asyncio.Event()

    async def begin(task: Ready) -> None:
        begun.append(task.address.run_id)
        queues.put(task, "async", since=0.0)  # recovery hears of it while it runs
        if task is first:
            await may_end.wait()
        else:
            is_over.set()

    for ready in (first, second, second, first):
        queues.put(ready, "async", since=0.0)
    assert queues.stats()[0]["pending"] == 2
    queues.start(begin)
    may_end.set()

    async with asyncio.timeout(10):
        await is_over.wait()
    assert begun == ["a", "b"]
    assert queues.stats()[0]["pending"] == 0


async def test_a_task_that_is_dropped_is_not_begun_and_makes_room() -> None:
    queues = LocalQueues({}, {"async": 1, "thread": None, "process": None})
    tasks = {name: Ready(Address(name, 0, 0), "background", "", "task") for name in "abc"}
    begun: list[str] = []
    is_over = asyncio.Event()

    async def begin(task: Ready) -> None:
        begun.append(task.address.run_id)
        if task is tasks["c"]:
            is_over.set()

    for ready in tasks.values():
        queues.put(ready, "async", since=0.0)
    queues.drop("b")
    assert queues.stats()[0]["pending"] == 2
    queues.start(begin)

    async with asyncio.timeout(10):
        await is_over.wait()
    assert begun == ["a", "c"]


async def test_tasks_that_wait_in_their_functions_keep_no_others_from_beginning() -> None:
    """Only so many are on their way into their functions at once, and each that enters makes room
    for another one."""
    queues = LocalQueues({}, {"async": None, "thread": None, "process": None})
    burst = [
        Ready(Address(f"run {number}", 0, 0), "background", "", "task")
        for number in range(STARTING_MOST + 1)
    ]
    begun: set[str] = set()
    door, all_have_begun, gate = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def begin(task: Ready) -> None:
        begun.add(task.address.run_id)
        if len(begun) == len(burst):
            all_have_begun.set()
        await door.wait()
        queues.entered(task.address.run_id)
        await gate.wait()

    for ready in burst:
        queues.put(ready, "async", since=0.0)
    queues.start(begin)
    for _ in range(STARTING_MOST):  # turns of the event loop: it has nothing more to do
        await asyncio.sleep(0)
    assert len(begun) == STARTING_MOST
    door.set()

    async with asyncio.timeout(10):
        await all_have_begun.wait()
    gate.set()
    await asyncio.gather(*queues.stop())


async def test_a_thread_that_begins_when_nobody_waits_for_it_lets_no_more_tasks_begin() -> None:
    """As that of a task that is cancelled: its end is recorded then."""
    queues = LocalQueues({}, {"async": None, "thread": None, "process": None})
    begun: list[str] = []
    may_end = asyncio.Event()

    async def begin(task: Ready) -> None:
        begun.append(run_id := task.address.run_id)
        if run_id == "cancelled":
            queues.left(run_id)
            queues.entered(run_id)
        else:
            await may_end.wait()

    queues.start(begin)
    for name in ("cancelled", *map(str, range(STARTING_MOST + 1))):
        queues.put(Ready(Address(name, 0, 0), "background", "", "task"), "thread", since=0.0)
        await asyncio.sleep(0)
    for _ in range(STARTING_MOST):  # turns of the event loop: it has nothing more to do
        await asyncio.sleep(0)

    assert len(begun) == 1 + STARTING_MOST
    may_end.set()


async def test_a_task_begins_without_the_context_variables_of_the_one_that_let_it_begin() -> None:
    """Those with which a thread says that it begins are its task's."""
    queues = LocalQueues({}, {"async": None, "thread": None, "process": None})
    seen: list[str] = []
    may_end = asyncio.Event()

    async def begin(_task: Ready) -> None:
        seen.append(whose.get())
        await may_end.wait()

    queues.start(begin)
    for name in map(str, range(STARTING_MOST + 2)):
        queues.put(Ready(Address(name, 0, 0), "background", "", "task"), "thread", since=0.0)
    for _ in range(STARTING_MOST):
        await asyncio.sleep(0)
    assert len(seen) == STARTING_MOST
    whose.set("another task")
    queues.entered("0")
    for _ in range(10):
        await asyncio.sleep(0)

    assert seen == ["nobody"] * (STARTING_MOST + 1)
    queues.left("0")
    may_end.set()
    await asyncio.gather(*queues.stop())


async def test_a_running_task_that_is_dropped_is_not_taken_again_while_it_runs() -> None:
    """It was cancelled: its function is being stopped, and recovery may still hear of it."""
    queues = LocalQueues({}, {"async": None, "thread": None, "process": None})
    ready = Ready(Address("run", 0, 0), "background", "", "task")
    begun: list[Ready] = []
    is_inside, may_end = asyncio.Event(), asyncio.Event()

    async def begin(task: Ready) -> None:
        begun.append(task)
        is_inside.set()
        await may_end.wait()

    queues.start(begin)
    queues.put(ready, "async", since=0.0)
    async with asyncio.timeout(10):
        await is_inside.wait()
        queues.drop("run")
        queues.put(ready, "async", since=0.0)
        may_end.set()
        while queues.stats()[0]["finished"] < 1:  # noqa: ASYNC110
            await asyncio.sleep(0)

    assert begun == [ready]
    assert queues.stats()[0]["pending"] == 0


async def test_an_eager_task_that_is_dropped_is_not_begun() -> None:
    queues = LocalQueues({}, {"async": None, "thread": None, "process": None})
    first, second = (Ready(Address(name, 0, 0), "background", "", "task") for name in "ab")
    begun: list[str] = []
    is_over = asyncio.Event()

    async def begin(task: Ready) -> None:
        begun.append(task.address.run_id)
        is_over.set()

    for ready in (first, second):
        queues.put(ready, "async", since=0.0, eager=True)
    queues.drop("a")
    queues.start(begin)
    async with asyncio.timeout(10):
        await is_over.wait()

    assert begun == ["b"]


async def test_the_most_urgent_task_of_all_queues_and_executors_is_next() -> None:
    """Also when queues share what an executor has room for."""
    queues = LocalQueues(
        {"mail": QueueConfig(), "report": QueueConfig()},
        {"async": 1, "thread": None, "process": None},
    )
    places = [("mail", 1), ("report", 9), ("default", 5), ("report", 2), ("mail", 7)]
    begun: list[str] = []
    is_over = asyncio.Event()

    async def begin(task: Ready) -> None:
        begun.append(task.address.run_id)
        if len(begun) == len(places):
            is_over.set()

    for queue, priority in places:
        route = route_of({"queue": queue, "priority": priority})
        run = Ready(Address(str(priority), 0, 0), "background", route, "task")
        queues.put(run, "async", since=0.0)
    queues.start(begin)
    async with asyncio.timeout(10):
        await is_over.wait()

    assert begun == ["9", "7", "5", "2", "1"]


async def test_what_waited_at_a_stop_is_begun_once_when_it_is_handed_over_again() -> None:
    """It stays in the store, and whoever begins tasks next hears of it from there."""
    queues = LocalQueues({}, {"async": None, "thread": None, "process": None})
    tasks = [Ready(Address(name, 0, 0), "background", "", "task") for name in "abc"]
    begun: list[str] = []
    is_over = asyncio.Event()

    async def begin(task: Ready) -> None:
        begun.append(task.address.run_id)
        if task is tasks[2]:
            is_over.set()

    for eager, ready in enumerate(tasks[:2]):
        queues.put(ready, "async", since=0.0, eager=bool(eager))
    assert queues.stop() == []
    assert queues.stats()[0]["pending"] == 0
    queues.start(begin)
    for ready in tasks:
        queues.put(ready, "async", since=0.0)
    async with asyncio.timeout(10):
        await is_over.wait()

    assert sorted(begun) == ["a", "b", "c"]


class Places:
    """Queues with nothing in them, and work that is over when it is told so."""

    def __init__(self, kind: Executor = "process", most: int | None = None) -> None:
        room: dict[Executor, int | None] = {"async": None, "thread": None, "process": None}
        self.queues = LocalQueues({"small": QueueConfig(concurrency=1)}, {**room, kind: most})
        self.begun: list[str] = []
        self.may_end = asyncio.Event()
        self.queues.start(self._begin)

    async def _begin(self, task: Ready) -> None:
        await self.work(task.address.run_id)

    async def work(self, run_id: str) -> None:
        self.begun.append(run_id)
        await self.may_end.wait()

    def put(self, run_id: str, queue: str | None = None) -> None:
        route = route_of({} if queue is None else {"queue": queue})
        ready = Ready(Address(run_id, 0, 0), "background", route, "task")
        self.queues.put(ready, "async", since=0.0)

    def lane(self, name: str = "default") -> dict[str, Any]:
        return next(lane for lane in self.queues.stats() if lane["name"] == name)

    async def end(self) -> None:
        self.may_end.set()
        await asyncio.gather(*self.queues.stop())


async def test_a_place_is_kept_for_a_task_that_is_about_to_be_stored() -> None:
    places = Places()

    assert places.queues.reserve("a", "small", "async")
    assert places.lane("small")["running"] == 1
    assert not places.queues.reserve("b", "small", "async"), "it is the only one"
    places.put("b", "small")
    await asyncio.sleep(0)
    assert places.begun == []
    places.queues.run("a", places.work("a"))
    await asyncio.sleep(0)
    assert places.begun == ["a"]
    places.may_end.set()
    async with asyncio.timeout(10):
        while places.lane("small")["finished"] < 2:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)

    assert places.begun == ["a", "b"]
    assert places.lane("small")["running"] == 0
    await places.end()


async def test_a_place_that_is_given_up_is_another_ones() -> None:
    places = Places("async", 1)
    assert places.queues.reserve("a", None, "async")
    places.put("b")
    await asyncio.sleep(0)
    assert places.begun == []

    places.queues.give_up("a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert places.begun == ["b"]
    assert (places.lane()["running"], places.lane()["finished"]) == (1, 0)
    await places.end()


async def test_no_place_is_kept_where_a_task_would_have_to_wait() -> None:
    places = Places("thread", 1)
    places.put("waits, before others may")
    assert not places.queues.reserve("a", None, "async")
    await asyncio.sleep(0)
    assert places.queues.reserve("a", None, "async")
    assert not places.queues.reserve("a", None, "async"), "it is about to be stored already"
    assert places.queues.reserve("b", None, "thread")
    assert not places.queues.reserve("c", None, "thread"), "there is no thread left"
    assert places.queues.reserve("eager", None, "thread", eager=True)
    kept = sum(places.queues.reserve(f"more {n}", None, "async") for n in range(STARTING_MOST))
    assert kept == STARTING_MOST - 4, "so many may be on their way at once"
    for run_id in ("a", "b", "eager", *(f"more {n}" for n in range(kept))):
        places.queues.give_up(run_id)
    await places.end()

    assert not places.queues.reserve("d", None, "async"), "nothing begins any more"
    assert places.lane()["running"] == 0
