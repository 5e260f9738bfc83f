"""What tasks and steps on a worker say of their progress, and their results, reach a client."""

from pathlib import Path

from taskiq_flow import Pipeline
from taskiq_flow.progress import TaskProgress, get_progress
from tests.integration.apps.reports import with_results
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import eventually


async def test_progress_and_results_of_a_worker_are_read_by_a_client(make_app: MakeApp) -> None:
    app = make_app()
    await app.start(module="reporting")

    async with app.client() as client:
        broker = with_results(client.broker, app.settings)
        plain = await client["copied"].kiq(3)
        plain_result = await plain.wait_result(check_interval=0.05, timeout=30)

        async def is_said() -> bool:
            said = await get_progress(broker.result_backend, plain.task_id)
            return said == TaskProgress(1.0, "copying", 3, 3)

        await eventually(is_said)
        task = await Pipeline(broker, client["copied"]).kiq(4)
        await task.wait_result(timeout=30)
        said = {"copied": {"current": 4, "total": 4, "message": "copying"}}

        async def is_shown() -> bool:
            return (await task.get_progress()).meta == said

        await eventually(is_shown)
        published = broker.result_backend
        await eventually(lambda: published.is_result_ready(task.task_id))

        assert plain_result.return_value == (3, Path("there"))
        assert (await published.get_result(task.task_id)).return_value == (4, Path("there"))
        for task_id in (plain.task_id, task.task_id):
            await published.delete_result(task_id)
        assert not await plain.is_ready()
