"""What a step may ask and say on a worker and in its process pool, and when its time is up."""

import asyncio
import time

import pytest

from taskiq_flow import Pipeline, PipelineTimeoutError, Task
from tests.integration.apps.bounded import register_bounded
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import eventually


async def test_a_step_on_a_worker_logs_reports_reads_and_is_cut_off_in_time(
    make_app: MakeApp,
) -> None:
    app = make_app()
    worker = await app.start(module="limited")

    async with app.client() as client:
        register_bounded(client.broker)
        first = Pipeline(client.broker, client["add"])
        began = time.time()
        task = await first.call_next(client["told"]).with_timeout(60).with_id("named").kiq(1)
        told = (await task.wait_result(timeout=30)).return_value
        progress, log = await task.get_progress(), await Task("named", client.broker).get_log()
        threaded = Pipeline(client.broker, client["add"]).call_next(client["told_in_thread"])
        in_thread = (await (await threaded.kiq(1)).wait_result(timeout=30)).return_value

        late = Pipeline(client.broker, client["pause"]).call_next(client["add_noted"])
        cut_off = await late.with_timeout(1).kiq(60.0)
        with pytest.raises(PipelineTimeoutError, match=r"longer than its timeout of 1 s") as error:
            await cut_off.wait_result(timeout=30)
        await eventually(lambda: bool(app.journal.notes("pause", "cancelled")), seconds=5)

    assert told["pid"] in worker.child_pids
    assert told["results"] == {"add": 2}
    assert told["step"] == ["told", 1, 1, False]
    assert told["ids"][0] == "named"
    assert told["ids"][2] == f"{told['ids'][1]}:1"
    assert began + 55 < told["deadline"] < time.time() + 60
    assert progress.meta == {"told": {"current": 1, "total": 1, "message": "all of it"}}
    assert [(line.step, line.level, line.message) for line in log] == [
        ("told", "INFO", "value is 2")
    ]
    assert in_thread == [told["pid"], "told_in_thread", True, 2]
    assert isinstance(error.value, asyncio.TimeoutError)
    assert app.journal.notes("add_noted") == []


async def test_a_step_in_a_process_pool_gets_a_view_of_its_context_and_may_go_on(
    make_app: MakeApp,
) -> None:
    app = make_app()
    await app.start("--use-process-pool", "--max-process-pool-processes", "1", module="limited")

    async with app.client() as client:
        register_bounded(client.broker)
        both = Pipeline(client.broker, client["told"])
        worker_pid = (await (await both.kiq(1)).wait_result(timeout=30)).return_value["pid"]
        task = await Pipeline(client.broker, client["told_in_thread"]).kiq(1)
        pid, *view = (await task.wait_result(timeout=30)).return_value
        goes_on = client.broker.register_task(lambda count: None, task_name="goes_on")
        task = await Pipeline(client.broker, goes_on).call_next(client["add"]).kiq(5)
        gone_on = (await task.wait_result(timeout=30)).return_value

    assert view == ["told_in_thread", False, None]
    assert pid != worker_pid
    assert gone_on == sum(n * n for n in range(5)) + 1
