"""What a process hears and reads of runs that others start and run."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from taskiq_flow import (
    EventType,
    Pipeline,
    PipelineStatus,
    PipelineTrackingManager,
    RunEvent,
    Task,
)
from taskiq_flow.tracking import RedisPipelineStorage
from tests.integration.apps.settings import BrokerKind
from tests.integration.workers.conftest import build
from tests.integration.workers.harness import READY_LINE, App, eventually

PLACES = [
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("postgres", marks=[pytest.mark.redis, pytest.mark.postgres]),
]


@pytest.fixture(scope="module", params=PLACES)
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application with one worker, which copies runs to a storage of its own."""
    directory = tmp_path_factory.mktemp("app") / "app"
    app = build(request, directory, BrokerKind.LIST, store=request.param)
    try:
        app.spawn(module="tracked").wait_for_log(READY_LINE)
        yield app
    finally:
        app.close()


class Listener:
    """Notes what it hears of each run."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.ends: dict[str, PipelineStatus] = {}

    def on_pipeline_start(self, pipeline_id: str) -> None:
        self.heard.append((pipeline_id, "start"))

    def on_step_complete(self, pipeline_id: str, step_name: str, result: Any) -> None:
        self.heard.append((pipeline_id, step_name, result))

    async def on_pipeline_complete(self, pipeline_id: str, status: PipelineStatus) -> None:
        self.ends[pipeline_id] = status


async def test_a_run_that_other_processes_start_and_run_is_heard_of_and_copied(app: App) -> None:
    """The client that started it is gone; the worker copies it to a storage of its own."""
    listener = Listener()
    prefix = f"{app.settings.queue}:tracking:"
    storage = RedisPipelineStorage(app.settings.broker_url, key_prefix=prefix)
    async with app.client() as client:
        tracking = PipelineTrackingManager().with_auto_storage(client.broker)
        tracking.add_listener(listener)
        await tracking.start()

        app.spawn_script("leave")
        run_id = await app.output_of("leave")

        await eventually(lambda: run_id in listener.ends)
        assert str(await tracking.get_status(run_id)) == "COMPLETED"
    assert listener.heard == [
        (run_id, "start"),
        (run_id, "add", 2),
        (run_id, "add#2", 12),
        (run_id, "add#3", 112),
    ]
    assert listener.ends[run_id].result == 112

    async def is_copied() -> bool:
        status = await storage.get_status(run_id)
        return status is not None and (str(status), status.result) == ("COMPLETED", 112)

    await eventually(is_copied)
    await storage.close()


async def test_events_are_read_on_from_where_another_process_stopped(app: App) -> None:
    async with app.client() as one, app.client() as other:
        task = await Pipeline(one.broker, one["add"]).call_after(one["pause"], 0.2).kiq(1)
        first: list[RunEvent] = []
        async with asyncio.timeout(30):
            async for event in task.events():
                first.append(event)
                if event.type is EventType.STEP_COMPLETED:
                    break

            handle = Task(task_id=task.task_id, broker=other.broker)
            rest = [event async for event in handle.events(after=first[-1].seq)]

    events = first + rest
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [(event.type, event.step_name) for event in events] == [
        (EventType.RUN_CREATED, None),
        (EventType.RUN_STARTED, None),
        (EventType.STEP_STARTED, "add"),
        (EventType.STEP_COMPLETED, "add"),
        (EventType.STEP_STARTED, "pause"),
        (EventType.STEP_COMPLETED, "pause"),
        (EventType.RUN_COMPLETED, None),
    ]
