"""Every block of the tracking reference runs as written, in memory and on Redis with a worker.

Where a block cannot run as it stands, the test says what stands in for which of its words.
"""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.asyncio as redis
from taskiq import InMemoryBroker

from taskiq_flow import (
    Pipeline,
    PipelineMiddleware,
    PipelineStatus,
    PipelineTask,
    PipelineTrackingManager,
)
from taskiq_flow.exceptions import TaskiqFlowError
from taskiq_flow.tracking import InMemoryPipelineStorage, RedisPipelineStorage, TrackingStorage
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import BrokerKind
from tests.integration.apps.steps import register
from tests.integration.workers.conftest import build
from tests.integration.workers.harness import READY_LINE, App, eventually
from tests.seeds.guide import Guide

TEXT = "seed-000-tracking-api.txt"

LISTENER = """
    class MyListener:
        async def on_pipeline_start(self, pipeline_id: str):
            print(f"Pipeline {pipeline_id} started")

        async def on_pipeline_complete(self, pipeline_id: str, status: PipelineStatus):
            send_alert_if_failed(status)

    listener = MyListener()
    tracking.add_listener(listener)
"""

CUSTOM = '''
    from taskiq_flow.tracking.storage import TrackingStorage
    from taskiq_flow.tracking.models import PipelineStatus

    class PostgresStorage(TrackingStorage):
        async def save_status(self, status: PipelineStatus):
            """Save or update pipeline status."""
            ...

        async def get_status(self, pipeline_id: str) -> PipelineStatus | None:
            """Fetch pipeline status by ID."""
            ...

        async def list_pipelines(self, status_filter: str | None = None,
                                 limit: int = 100) -> list[PipelineStatus]:
            """List pipelines, optionally filtered by status."""
            ...

        async def delete_pipeline(self, pipeline_id: str):
            """Remove pipeline record."""
            ...

        async def cleanup_older_than(self, days: int) -> int:
            """Delete records older than N days. Returns count deleted."""
            ...

    tracking = PipelineTrackingManager().with_storage(PostgresStorage())
'''


@pytest.fixture(scope="module")
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application on Redis, with one worker for all blocks."""
    app = build(request, tmp_path_factory.mktemp("guide") / "app", BrokerKind.LIST, store=None)
    try:
        app.spawn().wait_for_log(READY_LINE)
        yield app
    finally:
        app.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def guide(request: pytest.FixtureRequest) -> AsyncIterator[Guide]:
    """The reference as a client reads it, in this process or beside a worker."""
    if request.param == "memory":
        broker: Any = InMemoryBroker()
    else:
        app: App = request.getfixturevalue("app")
        broker = make_broker(app.settings)
        broker.add_middlewares(PipelineMiddleware(config=app.config))
    register(broker)
    await broker.startup()
    yield Guide(
        TEXT,
        __name__,
        broker=broker,
        Pipeline=Pipeline,
        PipelineStatus=PipelineStatus,
        PipelineTrackingManager=PipelineTrackingManager,
        InMemoryPipelineStorage=InMemoryPipelineStorage,
        TrackingStorage=TrackingStorage,
        datetime=datetime,
        tracking=PipelineTrackingManager().with_auto_storage(broker),
    )
    await broker.shutdown()


def chain(guide: Guide, *names: str) -> Pipeline[Any]:
    pipeline: Pipeline[Any] = Pipeline(guide["broker"])
    for name in names:
        pipeline = pipeline.call_next(guide["broker"].find_task(name))
    return pipeline


async def end(task: PipelineTask[Any]) -> None:
    await task.wait_result(timeout=30, raise_on_error=False)


# --- The manager


async def test_a_manager_is_given_a_broker_or_a_storage(guide: Guide) -> None:
    await guide.run("""
        from taskiq_flow import PipelineTrackingManager
        tracking = PipelineTrackingManager()
        tracking = tracking.with_auto_storage(broker)
        # or
        tracking = tracking.with_storage(InMemoryPipelineStorage())
    """)

    tracking = guide["tracking"]
    assert isinstance(tracking.storage, InMemoryPipelineStorage)
    task = await chain(guide, "add").with_tracking(tracking).kiq(1)
    await end(task)
    status = await tracking.get_status(task.task_id)
    assert (status.status, status.result) == ("COMPLETED", 2)


async def test_a_manager_is_configured(guide: Guide) -> None:
    await guide.run("""
        tracking = PipelineTrackingManager(
            storage=None, # Optional pre-configured storage
            max_history=1000, # Max pipeline records to keep (memory store only)
            auto_cleanup=True # Auto-purge old records
        )
    """)

    task = await chain(guide, "add").with_tracking(guide["tracking"]).kiq(1)
    await end(task)
    assert str(await guide["tracking"].get_status(task.task_id)) == "COMPLETED"


async def test_the_storage_fits_the_broker(guide: Guide, request: pytest.FixtureRequest) -> None:
    """The table of storages: InMemoryBroker and Redis brokers."""
    kind = {"memory": InMemoryPipelineStorage, "redis": RedisPipelineStorage}

    storage = guide["tracking"].storage

    assert isinstance(storage, kind[request.node.callspec.params["guide"]])


async def test_a_manager_is_attached_to_a_pipeline(guide: Guide) -> None:
    await guide.run(
        """
        pipeline = Pipeline(broker).with_tracking(tracking)
        # or
        pipeline.with_tracking(tracking) # in-place modification
        """
    )

    pipeline = guide["pipeline"]
    assert pipeline.tracking is guide["tracking"]
    await end(await pipeline.call_next(guide["broker"].find_task("add")).kiq(1))
    assert str(await guide["tracking"].get_status(pipeline.pipeline_id)) == "COMPLETED"


# --- Asking


async def test_the_status_of_one_run_is_asked_for(guide: Guide) -> None:
    task = await chain(guide, "add", "add").with_tracking(guide["tracking"]).kiq(1)
    await end(task)

    await guide.run(
        """
        # Get status of a specific pipeline execution
        status = await tracking.get_status(pipeline_id: str) -> PipelineStatus | None
        """,
        {"(pipeline_id: str) -> PipelineStatus | None": "(pipeline_id)"},  # a signature
        pipeline_id=task.task_id,
    )

    status = guide["status"]
    assert (status.pipeline_id, status.status) == (task.task_id, "COMPLETED")
    assert [(step.name, step.status, step.result) for step in status.steps] == [
        ("add", "COMPLETED", 2),
        ("add#2", "COMPLETED", 3),
    ]
    assert await guide["tracking"].get_status("no-such-run") is None


async def test_all_runs_are_listed(guide: Guide) -> None:
    task = await chain(guide, "add").kiq(1)
    await end(task)

    await guide.run(
        """
        # List all tracked pipelines
        all_statuses = await tracking.list_pipelines(
            status_filter: str | None = None, # Filter by status
            limit: int = 100
        ) -> list[PipelineStatus]
        """,
        {  # a signature
            "status_filter: str | None = None": "status_filter=None",
            "limit: int = 100": "limit=100",
            ") -> list[PipelineStatus]": ")",
        },
    )

    assert guide["all_statuses"][0].pipeline_id == task.task_id
    failed = await guide["tracking"].list_pipelines(status_filter="FAILED")
    assert task.task_id not in [status.pipeline_id for status in failed]


async def test_the_history_is_asked_for(guide: Guide) -> None:
    task = await chain(guide, "add").kiq(1)
    await end(task)

    await guide.run(
        """
        # Get historical executions
        history = await tracking.get_history(
            since: datetime | None = None,
            until: datetime | None = None,
            limit: int = 100
        ) -> list[PipelineStatus]
        """,
        {  # a signature
            "since: datetime | None = None": "since=datetime.now(UTC) - timedelta(minutes=1)",
            "until: datetime | None = None": "until=None",
            "limit: int = 100": "limit=100",
            ") -> list[PipelineStatus]": ")",
        },
        UTC=UTC,
        timedelta=timedelta,
    )

    assert guide["history"][0].pipeline_id == task.task_id
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert await guide["tracking"].get_history(since=later) == []


# --- Maintenance


async def test_records_are_deleted_and_cleaned_up(guide: Guide) -> None:
    task = await chain(guide, "add").kiq(1)
    await end(task)

    await guide.run(
        """
        # Delete specific pipeline record
        await tracking.delete_pipeline(pipeline_id: str)
        # Delete records older than N days
        deleted_count = await tracking.cleanup_older_than(days: int = 30) -> int
        """,
        {  # signatures
            "(pipeline_id: str)": "(pipeline_id)",
            "(days: int = 30) -> int": "(days=30)",
        },
        pipeline_id=task.task_id,
    )

    assert guide["deleted_count"] == 0
    assert await guide["tracking"].get_status(task.task_id) is None
    await end(await chain(guide, "add").kiq(1))
    assert await guide["tracking"].cleanup_older_than(days=0) >= 1


async def test_metrics_are_asked_for(guide: Guide) -> None:
    await guide["tracking"].cleanup_older_than(days=0)
    await end(await chain(guide, "add").kiq(1))
    await end(await chain(guide, "add", "fails").kiq(1))

    await guide.run(
        """
        # Get aggregate metrics
        metrics = await tracking.get_metrics(
            days: int = 7
        ) -> TrackingMetrics
        """,
        {"days: int = 7": "days=7", ") -> TrackingMetrics": ")"},  # a signature
    )

    metrics = guide["metrics"]
    assert (metrics.total_pipelines, metrics.completed, metrics.failed) == (2, 1, 1)
    assert metrics.success_rate == 0.5
    assert metrics.p95_duration_ms >= metrics.avg_duration_ms > 0
    assert metrics.failure_reasons == {"ValueError": 1}
    assert metrics.most_frequent_step == "fails"


# --- Listeners


async def test_a_listener_hears_of_runs(guide: Guide, capsys: pytest.CaptureFixture[str]) -> None:
    alerts: list[PipelineStatus] = []

    await guide.run(LISTENER, send_alert_if_failed=alerts.append)

    task = await chain(guide, "fails").with_tracking(guide["tracking"]).kiq(1)
    await end(task)
    await eventually(lambda: bool(alerts))
    assert f"Pipeline {task.task_id} started" in capsys.readouterr().out
    assert (alerts[0].pipeline_id, alerts[0].status) == (task.task_id, "FAILED")
    assert alerts[0].steps[0].error == "ValueError: no 1 here"


# --- Storages


async def test_the_storage_in_memory(guide: Guide) -> None:
    await guide.run("""
        from taskiq_flow.tracking import InMemoryPipelineStorage
        storage = InMemoryPipelineStorage(max_records=1000)
        tracking = PipelineTrackingManager().with_storage(storage)
    """)

    task = await chain(guide, "add").with_tracking(guide["tracking"]).kiq(1)
    await end(task)
    assert str(await guide["storage"].get_status(task.task_id)) == "COMPLETED"


@pytest.mark.redis
@pytest.mark.parametrize("decode_responses", ["True", "False"])
async def test_the_storage_in_redis(guide: Guide, redis_url: str, decode_responses: str) -> None:
    await guide.run(
        """
        from taskiq_flow.tracking import RedisPipelineStorage
        import redis.asyncio as redis
        redis_client = redis.Redis(host="localhost", port=6379, decode_responses=True)
        storage = RedisPipelineStorage(
            redis_client,
            key_prefix="taskiq_flow:tracking:",
            ttl_seconds=604800 # 7 days
        )
        tracking = PipelineTrackingManager().with_storage(storage)
        """,
        {  # the tests' server
            'redis.Redis(host="localhost", port=6379': f"redis.Redis.from_url({redis_url!r}",
            "decode_responses=True": f"decode_responses={decode_responses}",
        },
    )

    task = await chain(guide, "add").with_tracking(guide["tracking"]).kiq(1)
    await end(task)
    status = await guide["tracking"].get_status(task.task_id)
    assert (str(status), status.result, status.steps[0].result) == ("COMPLETED", 2, 2)
    await guide["tracking"].delete_pipeline(task.task_id)
    client: redis.Redis = guide["redis_client"]
    assert [key async for key in client.scan_iter("taskiq_flow:tracking:*")] == []
    await client.aclose()


async def test_a_storage_of_ones_own_as_outlined(guide: Guide) -> None:
    """Its methods do nothing: the run does not care, and nothing is found."""
    await guide.run(CUSTOM)

    task = await chain(guide, "add").with_tracking(guide["tracking"]).kiq(1)
    assert (await task.wait_result(timeout=30)).return_value == 2
    assert await guide["tracking"].get_status(task.task_id) is None
    assert await guide["tracking"].list_pipelines() == []
    assert await guide["tracking"].get_history() == []
    assert await guide["tracking"].cleanup_older_than(days=0) == 0


async def test_a_storage_of_ones_own_with_its_methods_written(guide: Guide) -> None:
    """The outline with five lines of code in it holds the end of each run."""
    await guide.run(
        CUSTOM,
        {
            '"""Save or update pipeline status."""': "kept[status.run_id] = status",
            '"""Fetch pipeline status by ID."""': "return kept.get(pipeline_id)",
            '"""List pipelines, optionally filtered by status."""': (
                "return [s for s in kept.values() if status_filter in (None, s.status)][:limit]"
            ),
            '"""Remove pipeline record."""': "kept.pop(pipeline_id, None)",
            '"""Delete records older than N days. Returns count deleted."""': "return 0",
        },
        kept={},
    )
    tracking = guide["tracking"]

    good = await chain(guide, "add").with_tracking(tracking).kiq(1)
    bad = await chain(guide, "fails").with_tracking(tracking).with_tags("red").kiq(1)
    await end(good)
    await end(bad)

    assert str(await tracking.get_status(good.task_id)) == "COMPLETED"
    assert [s.run_id for s in await tracking.list_pipelines("failed")] == [bad.task_id]
    assert [s.run_id for s in await tracking.get_history(tag="red")] == [bad.task_id]
    assert [s.run_id for s in await tracking.get_history()] == [bad.task_id, good.task_id]
    assert (await tracking.get_metrics()).most_frequent_step == "fails"
    await tracking.delete_pipeline(good.task_id)
    assert await tracking.get_status(good.task_id) is None


# --- Models


async def test_the_models_have_their_attributes(guide: Guide) -> None:
    await guide.run("""
        from taskiq_flow.tracking.models import PipelineStatus
        status: PipelineStatus
    """)
    await guide.run("""
        from taskiq_flow.tracking.models import StepStatus
        step: StepStatus
    """)
    await guide.run("""
        from taskiq_flow.tracking.models import TrackingMetrics
        metrics: TrackingMetrics
    """)
    task = await chain(guide, "add").with_tracking(guide["tracking"]).kiq(1)
    await end(task)

    status = await guide["tracking"].get_status(task.task_id)
    (step,) = status.steps

    assert (status.pipeline_type, status.error, status.is_finished()) == ("sequential", None, True)
    assert status.started_at <= status.completed_at
    assert status.duration_ms == pytest.approx(
        (status.completed_at - status.started_at).total_seconds() * 1000, abs=1
    )
    assert status.model_dump()["steps"][0]["step_name"] == "add"
    assert (step.step_name, step.result, step.error, step.retry_count) == ("add", 2, None, 0)
    assert step.started_at <= step.completed_at
    assert step.duration_ms >= 0
    assert set(guide["TrackingMetrics"].model_fields) >= {
        "total_pipelines", "completed", "failed", "success_rate", "avg_duration_ms",
        "p95_duration_ms", "failure_reasons", "most_frequent_step",
    }  # fmt: skip


async def test_a_manager_that_was_told_nothing_says_so() -> None:
    with pytest.raises(TaskiqFlowError, match="No tracking storage configured"):
        await PipelineTrackingManager().get_status("x")
