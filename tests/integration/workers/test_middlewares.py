"""Other middlewares on the broker see steps as tasks, and cannot take them out of their run."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from taskiq import TaskiqMessage, TaskiqMiddleware

from taskiq_flow import Pipeline, PipelineError
from tests.integration.workers.conftest import PLACES, build
from tests.integration.workers.harness import READY_LINE, App, Client, eventually


@pytest.fixture(scope="module")
def hooked_app(request, tmp_path_factory):
    """An application with the middlewares of `apps.hooked`, and one worker."""
    broker, store = PLACES[0].values[0]
    app = build(request, tmp_path_factory.mktemp("hooked") / "app", broker, store=store)
    try:
        app.spawn(module="hooked").wait_for_log(READY_LINE)
        yield app
    finally:
        app.close()


@pytest.fixture
async def client(hooked_app: App) -> AsyncIterator[Client]:
    async with hooked_app.client() as client:
        yield client


async def hooks_of(app: App, run_id: str, calls: int) -> list[tuple[str, dict[str, Any]]]:
    """The calls of hooks for the steps of a run, in order; the last come after its end."""

    def found() -> list[tuple[str, dict[str, Any]]]:
        seen = [(note.what, json.loads(note.key)) for note in app.journal.notes("hook")]
        return [(hook, facts) for hook, facts in seen if facts["labels"]["pipeline_id"] == run_id]

    await eventually(lambda: len(found()) >= calls)
    return found()


async def test_a_retry_middleware_does_not_take_a_step_out_of_its_run(
    hooked_app: App, client: Client
) -> None:
    task = await Pipeline(client.broker, client["flaky"]).kiq("once", failures=1)

    with pytest.raises(PipelineError, match="try 1"):
        await task.wait_result(timeout=30)

    again = await Pipeline(client.broker, client["flaky"]).with_retry(3, delay=0).kiq("thrice", 2)
    assert (await again.wait_result(timeout=30)).return_value == 3
    tries = [note.key for note in hooked_app.journal.notes("flaky", "ran")]
    assert (tries.count("once"), tries.count("thrice")) == (1, 3)


async def test_a_tasks_retry_labels_are_its_policy_inside_the_run(
    hooked_app: App, client: Client
) -> None:
    flaky = client["flaky"].kicker().with_labels(retry_on_error=True, max_retries=3, delay=0)
    task = await Pipeline(client.broker).call_next(flaky).kiq("labels", failures=2)

    assert (await task.wait_result(timeout=30)).return_value == 3
    assert (await task.get_status()).steps[0].retry_count == 2


async def test_hooks_see_each_step_under_its_own_name_and_id(
    hooked_app: App, client: Client
) -> None:
    pipeline = Pipeline(client.broker, client["add"]).call_next(client["square"])
    task = await pipeline.with_labels(colour="red").kiq(1)
    await task.wait_result(timeout=30)

    calls = await hooks_of(hooked_app, task.task_id, 6)
    assert [hook for hook, _ in calls] == ["pre_execute", "post_execute", "post_save"] * 2
    assert [facts["name"] for _, facts in calls] == ["add"] * 3 + ["square"] * 3
    assert len({facts["id"] for _, facts in calls}) == 2
    assert [facts["labels"]["step"] for _, facts in calls] == ["add"] * 3 + ["square"] * 3
    assert {facts["labels"]["colour"] for _, facts in calls} == {"red"}


async def test_post_save_comes_after_the_record(hooked_app: App, client: Client) -> None:
    task = await Pipeline(client.broker, client["add"]).kiq(1)
    await task.wait_result(timeout=30)

    hook, facts = (await hooks_of(hooked_app, task.task_id, 3))[-1]
    assert (hook, facts["status"]) == ("post_save", "COMPLETED")


async def test_what_a_sending_middleware_marks_a_message_with_reaches_the_step(
    hooked_app: App,
) -> None:
    """A trace's header, or a tenant, as plain tasks have it; a step's own label goes before it."""

    class Marking(TaskiqMiddleware):
        def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            message.labels.update(traceparent="00-abc-def-01", colour="blue")
            return message

    async with hooked_app.client(Marking()) as client:
        red = client["add"].kicker().with_labels(colour="red")
        task = await Pipeline(client.broker).call_next(red).call_next(client["square"]).kiq(1)
        await task.wait_result(timeout=30)

    calls = await hooks_of(hooked_app, task.task_id, 6)
    assert {facts["labels"]["traceparent"] for _, facts in calls} == {"00-abc-def-01"}
    assert [facts["labels"]["colour"] for _, facts in calls] == ["red"] * 3 + ["blue"] * 3
    assert all("flow_task" not in facts["labels"] for _, facts in calls)


async def test_a_middleware_that_breaks_changes_no_result_and_no_error(
    hooked_app: App, client: Client
) -> None:
    """The worker of this module has one that raises from each hook, `on_error` too."""
    pipeline = Pipeline(client.broker, client["add"]).call_next(client["fails"])
    task = await pipeline.kiq(1)

    with pytest.raises(PipelineError, match="no 2 here") as caught:
        await task.wait_result(timeout=30)

    assert isinstance(caught.value.__cause__, ValueError)
    *_, failed, after, saved = await hooks_of(hooked_app, task.task_id, 7)
    assert failed[0] == "on_error", "the others are called all the same"
    assert "ValueError" in failed[1]["error"]
    assert (after[0], saved[0]) == ("post_execute", "post_save")


async def test_each_class_of_the_middleware_hears_of_a_step_once(
    hooked_app: App, client: Client
) -> None:
    """There are two plain ones on the broker, two of one subclass, and one of another."""
    task = await Pipeline(client.broker, client["square"]).call_next(client["fails"]).kiq(77)
    with pytest.raises(PipelineError):
        await task.wait_result(timeout=30)

    def heard(name: str) -> list[tuple[str, str]]:
        return [(note.what, note.key) for note in hooked_app.journal.notes(name)][-4:]

    told = [
        ("start", "square"),
        ("complete", "square 5929"),
        ("start", "fails"),
        ("error", "fails no 5929 here"),
    ]
    await eventually(lambda: heard("Watching")[-1] == heard("WatchingToo")[-1] == told[-1])
    assert heard("Watching") == told
    assert heard("WatchingToo") == told


async def test_a_requeue_means_again_and_counts_as_no_failure(
    hooked_app: App, client: Client
) -> None:
    pipeline = Pipeline(client.broker, client["asks_again"]).call_next(client["asks_again"])
    task = await pipeline.kiq("requeue")

    result = await task.wait_result(timeout=30)

    assert result.return_value == "once more"
    status = await task.get_status()
    assert [(step.retry_count, step.lost_count) for step in status.steps] == [(0, 0)] * 2
    assert len([n for n in hooked_app.journal.notes("asks_again") if n.key == "requeue"]) == 2


async def test_context_and_dependencies_work_as_in_tasks(hooked_app: App, client: Client) -> None:
    task = await Pipeline(client.broker, client["uses"]).kiq(5)

    result = await task.wait_result(timeout=30)

    assert result.return_value == [5, "resource", "uses", False]
    assert [note.what for note in hooked_app.journal.notes("opened")] == ["opened", "closed"]


async def test_a_dependency_that_breaks_on_close_fails_its_step_and_holds_up_nothing(
    hooked_app: App, client: Client
) -> None:
    """What it stands for, a transaction for example, may not have been kept."""
    task = await Pipeline(client.broker, client["uses_what_breaks"]).kiq(5)

    with pytest.raises(PipelineError, match="does not close"):
        await task.wait_result(timeout=30)

    assert len(hooked_app.journal.notes("uses_what_breaks")) == 1


async def test_an_async_step_is_cancelled_by_its_timeout_which_names_it(
    hooked_app: App, client: Client
) -> None:
    slow = client["pause"].kicker().with_labels(timeout=0.2)
    task = await Pipeline(client.broker).call_next(slow).kiq(60.5)

    with pytest.raises(PipelineError, match=r"'pause' ran longer than its timeout of 0\.2 s"):
        await task.wait_result(timeout=30)

    notes = [note.what for note in hooked_app.journal.notes("pause") if note.key == "60.5"]
    assert notes == ["began", "cancelled"]


async def test_a_sync_step_past_its_timeout_is_not_tried_again_before_its_thread_has_ended(
    hooked_app: App, client: Client
) -> None:
    """Also longer than the lease: it is kept, as code in a thread cannot be stopped."""
    slow = client["hold"].kicker().with_labels(timeout=0.3)
    task = await Pipeline(client.broker).call_next(slow).with_retry(2, delay=0).kiq(2.5)

    with pytest.raises(PipelineError, match="'hold' ran longer than its timeout"):
        await task.wait_result(timeout=30)

    notes = [(note.what, note.key) for note in hooked_app.journal.notes("hold")]
    assert notes == [("began", "1"), ("ended", "1"), ("began", "2"), ("ended", "2")]
