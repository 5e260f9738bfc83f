"""A hook manager tells hooks of the runs of a pipeline, and of nothing else."""

import asyncio
import logging
import threading
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import (
    ConfigurationError,
    DataflowPipeline,
    HookManager,
    Pipeline,
    PipelineError,
    PipelineMiddleware,
    PipelineTrackingManager,
)
from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.hooks import (
    EventFilter,
    HookEvent,
    HookEventType,
    PipelineCompleteEvent,
    PipelineErrorEvent,
    PipelineStartEvent,
    StepCompleteEvent,
    StepErrorEvent,
    StepStartEvent,
    TrackingEventBroadcaster,
)
from tests.integration.workers.harness import eventually


class Noting:
    """Notes every event, and when a run has ended."""

    def __init__(self) -> None:
        self.events: list[HookEvent] = []
        self.ended = asyncio.Event()

    async def on_event(self, event: HookEvent) -> None:
        self.events.append(event)
        if isinstance(event, PipelineCompleteEvent | PipelineErrorEvent):
            self.ended.set()

    async def of_one_run(self) -> list[HookEvent]:
        async with asyncio.timeout(20):
            await self.ended.wait()
        return self.events


def make_chain(broker: InMemoryBroker) -> Pipeline[Any]:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    @broker.task
    def refuse(value: int) -> int:
        if value > 100:
            raise ValueError(f"{value} is too much")
        return value

    return Pipeline(broker, double).call_next(refuse)


async def test_a_run_tells_its_events_in_order(broker: InMemoryBroker) -> None:
    noting = Noting()
    pipeline = make_chain(broker).with_hooks(HookManager().add_hook(noting)).with_id("one")
    task = await pipeline.kiq(4)

    events = await noting.of_one_run()

    assert [type(event) for event in events] == [
        PipelineStartEvent,
        StepStartEvent,
        StepCompleteEvent,
        StepStartEvent,
        StepCompleteEvent,
        PipelineCompleteEvent,
    ]
    started, _, doubled, *_, ended = events
    assert isinstance(started, PipelineStartEvent)
    assert isinstance(doubled, StepCompleteEvent)
    assert isinstance(ended, PipelineCompleteEvent)
    assert {(event.pipeline_id, event.run_id) for event in events} == {("one", task.run_id)}
    assert list(started.input.values()) == [4]
    assert (doubled.step_name, doubled.step_index, doubled.result) == ("double", 0, 8)
    assert (ended.status, ended.result) == ("COMPLETED", 8)
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)


async def test_a_failure_is_told_with_its_step_and_its_error(broker: InMemoryBroker) -> None:
    noting = Noting()
    pipeline = make_chain(broker).with_hooks(HookManager().add_hook(noting))
    task = await pipeline.kiq(60)
    with pytest.raises(PipelineError):
        await task.wait_result()

    *_, failed, ended = await noting.of_one_run()

    assert isinstance(failed, StepErrorEvent)
    assert isinstance(ended, PipelineErrorEvent)
    assert (failed.step_name, failed.error) == ("refuse", "ValueError: 120 is too much")
    assert (ended.status, ended.failed_step) == ("FAILED", "refuse")


async def test_a_graph_has_hooks_too(broker: InMemoryBroker) -> None:
    @broker.task
    async def left(number: int) -> int:
        return number + 1

    @broker.task
    async def right(number: int) -> int:
        return number - 1

    noting = Noting()
    pipeline = DataflowPipeline(broker, [left, right]).with_hooks(HookManager().add_hook(noting))
    await pipeline.kiq_dataflow(number=1)

    events = await noting.of_one_run()

    results = {e.step_name: e.result for e in events if isinstance(e, StepCompleteEvent)}
    assert results == {"left": 2, "right": 0}
    assert events[0].pipeline_type == "dataflow"


async def test_a_map_is_one_step_and_each_try_of_a_step_begins_anew(
    broker: InMemoryBroker,
) -> None:
    tries = 0

    @broker.task
    def double(value: int) -> int:
        return value * 2

    @broker.task
    def total(values: list[int]) -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionError("not yet")
        return sum(values)

    noting = Noting()
    pipeline = Pipeline(broker).map(double, range(20), max_parallel=3).call_next(total)
    await pipeline.with_retry(3, delay=0).with_hooks(HookManager().add_hook(noting)).kiq()

    events = await noting.of_one_run()

    started = [(e.step_name, e.attempt) for e in events if isinstance(e, StepStartEvent)]
    completed = [(e.step_name, e.attempt) for e in events if isinstance(e, StepCompleteEvent)]
    assert started == [("double", 1), ("total", 1), ("total", 2), ("total", 3)]
    assert completed == [("double", 1), ("total", 3)]


async def test_a_cancelled_run_ends_in_an_error_that_says_so(broker: InMemoryBroker) -> None:
    noting = Noting()
    pipeline = make_chain(broker).sleep(60).with_hooks(HookManager().add_hook(noting))
    task = await pipeline.kiq(1)
    await task.cancel("not needed")

    *_, ended = await noting.of_one_run()

    assert isinstance(ended, PipelineErrorEvent)
    assert (ended.status, ended.error) == ("CANCELLED", "cancelled: not needed")


async def test_other_pipelines_are_not_told_of(broker: InMemoryBroker) -> None:
    noting = Noting()
    manager = HookManager().add_hook(noting)
    pipeline = make_chain(broker).with_hooks(manager)
    await (await Pipeline(broker, pipeline._links[0].use.task).kiq(1)).wait_result()
    task = await pipeline.kiq(2)

    assert {event.run_id for event in await noting.of_one_run()} == {task.run_id}


async def test_a_hook_that_raises_or_hangs_slows_neither_the_run_nor_other_hooks(
    broker: InMemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()

    class Bad:
        async def on_pipeline_start(self, event: HookEvent) -> None:
            raise RuntimeError("this hook is broken")

        def on_step_start(self, event: HookEvent) -> None:
            release.wait(30)

    noting = Noting()
    manager = HookManager(timeout_seconds=0.2).add_hook(Bad()).add_hook(noting)
    task = await make_chain(broker).with_hooks(manager).kiq(1)

    assert (await task.wait_result(timeout=10)).return_value == 2
    assert len(await noting.of_one_run()) == 6
    assert "this hook is broken" in caplog.text
    assert "A hook failed on step_start" in caplog.text
    release.set()


async def test_functions_are_called_for_their_type_and_by_their_own_filter(
    broker: InMemoryBroker,
) -> None:
    noting, heard = Noting(), dict[str, list[str]](all=[], doubled=[], gone=[])
    manager = HookManager().add_hook(noting)
    manager.register("step_complete", lambda event: heard["all"].append(event.step_name))
    manager.register(
        HookEventType.STEP_COMPLETE,
        lambda event: heard["doubled"].append(event.step_name),
        filter_fn=lambda event: event.step_name == "double",
    )

    def gone(event: HookEvent) -> None:
        heard["gone"].append(event.type)

    manager.register(None, gone)
    assert manager.unregister(None, gone)
    assert not manager.unregister(None, gone)
    await make_chain(broker).with_hooks(manager).kiq(1)
    await noting.of_one_run()

    assert heard == {"all": ["double", "refuse"], "doubled": ["double"], "gone": []}


@pytest.mark.parametrize(
    ("passing", "emitted"),
    [
        (EventFilter(), True),
        (EventFilter(pipeline_ids=["a"]), True),
        (EventFilter(pipeline_ids=["run-1"]), True),
        (EventFilter(pipeline_ids=["b"]), False),
        (EventFilter(event_types=["step_start", "step_error"]), True),
        (EventFilter(pipeline_ids=["a"], event_types=["step_error"]), False),
        (EventFilter(pipeline_ids=["b"], event_types=["step_start"]), False),
    ],
)
async def test_a_filter_lets_an_event_pass_by_run_and_type(
    passing: EventFilter, emitted: bool
) -> None:
    event = StepStartEvent(pipeline_id="a", run_id="run-1", step_name="load")
    noting = Noting()

    await HookManager().add_hook(noting).add_filter(passing).dispatch(event)

    assert passing.should_emit(event) is emitted
    assert noting.events == ([event] if emitted else [])


async def test_a_middleware_tells_its_hooks_of_every_run(broker: InMemoryBroker) -> None:
    noting = Noting()
    broker.add_middlewares(PipelineMiddleware(hook_manager=HookManager().add_hook(noting)))
    pipeline = make_chain(broker)
    ids = {(await pipeline.kiq(number)).run_id for number in range(3)}

    def ended() -> list[str]:
        return [e.run_id for e in noting.events if isinstance(e, PipelineCompleteEvent)]

    await eventually(lambda: len(ended()) == 3)
    assert set(ended()) == ids


async def test_a_process_that_ends_does_not_wait_for_a_hook_that_hangs(
    broker: InMemoryBroker,
) -> None:
    hangs = asyncio.Event()

    class Hanging:
        async def on_pipeline_start(self, event: HookEvent) -> None:
            hangs.set()
            await asyncio.Event().wait()

    task = await make_chain(broker).with_hooks(HookManager().add_hook(Hanging())).kiq(1)
    async with asyncio.timeout(20):
        await task.wait_result()
        await hangs.wait()

        await broker.shutdown()


def test_what_is_no_hook_is_refused() -> None:
    manager = HookManager()

    with pytest.raises(ConfigurationError, match="at least one of on_pipeline_start"):
        manager.add_hook(logging)
    with pytest.raises(ConfigurationError, match="is a class"):
        manager.add_hook(Noting)
    with pytest.raises(ValueError, match="no_such_type"):
        manager.register("no_such_type", print)
    assert not manager.remove_hook(logging)
    with pytest.raises(InvalidTaskOptionError, match="Hooks must be a HookManager"):
        Pipeline(InMemoryBroker()).with_hooks(Noting)


async def test_a_broadcaster_tells_hooks_of_the_runs_that_tracking_hears_of(
    broker: InMemoryBroker,
) -> None:
    noting, tracking = Noting(), PipelineTrackingManager().with_auto_storage(broker)
    broadcaster = TrackingEventBroadcaster(tracking, HookManager().add_hook(noting))
    tracking.add_listener(broadcaster.on_status_update)
    pipeline = make_chain(broker).with_id("one")
    task = await pipeline.kiq(60)
    events = await noting.of_one_run()

    assert [type(event) for event in events] == [
        PipelineStartEvent,
        StepStartEvent,
        StepCompleteEvent,
        StepStartEvent,
        StepErrorEvent,
        PipelineErrorEvent,
    ]
    assert {(event.pipeline_id, event.run_id) for event in events} == {("one", task.run_id)}
    assert (events[2].step_name, events[2].result) == ("double", 120)
    assert "120 is too much" in str(events[4].error)
    assert (events[5].failed_step, events[5].status) == ("refuse", "FAILED")
