"""Background tasks with ``TaskManager(broker=...)`` run on workers, with the same records."""

import os
from pathlib import Path

from taskiq_flow import PipelineMiddleware
from tests.integration.apps.background import apart, chat, fail, make_manager, where
from tests.integration.apps.brokers import make_broker
from tests.integration.workers.conftest import MakeApp
from tests.support.tree import ROOT


async def test_tasks_of_an_application_run_on_a_worker(make_app: MakeApp) -> None:
    app = make_app()
    # Without the directory that keeps FastAPI away from the other workers.
    await app.start(module="background", PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'src'}")
    broker = make_broker(app.settings)
    broker.add_middlewares(PipelineMiddleware(config=app.config))

    async with make_manager(broker) as manager:
        ids = [manager.add_task(where, 7, tags={"tenant": "a"}), manager.add_task(fail, "no")]
        assert await manager.wait(ids, 60)
        done, failed = [await manager.store.aget(task_id) for task_id in ids]
    await broker.shutdown()

    assert done is not None
    assert failed is not None
    assert done.result["number"] == 7
    assert done.result["pid"] != os.getpid()
    assert [line.partition(" ")[2] for line in done.logs] == ["number 7"]
    assert (done.tags, done.executor) == ({"tenant": "a"}, "thread")
    assert (failed.status, failed.error, failed.queue) == ("failed", "no", "single")


async def test_a_worker_that_stops_ends_its_processes_and_tells_its_observers_the_rest(
    make_app: MakeApp, tmp_path: Path
) -> None:
    app, log = make_app(), tmp_path / "tasks.log"
    path = f"{ROOT}{os.pathsep}{ROOT / 'src'}"
    worker = await app.start(module="background", PYTHONPATH=path, FLOW_APP_LOG=str(log))
    broker = make_broker(app.settings)
    broker.add_middlewares(PipelineMiddleware(config=app.config))

    async with make_manager(broker) as manager:
        assert await manager.wait([manager.add_task(apart)], 60)
        assert await manager.wait([manager.add_task(chat)], 60)
        seconds = await worker.terminate()
    await broker.shutdown()

    assert seconds < 10
    assert log.read_text().splitlines()[-1].endswith("line 2999")
