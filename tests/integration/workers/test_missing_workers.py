"""A run that nobody takes says why."""

import logging

import pytest

from taskiq_flow import Pipeline, PipelineTimeoutError
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import BARE_READY_LINE


async def test_a_worker_without_the_middleware_is_noticed_by_the_client(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a worker takes the message, finds no such task, and drops it."""
    app = make_app()
    bare = await app.start(module="bare", ready=BARE_READY_LINE)

    async with app.client() as client:
        task = await Pipeline(client.broker, client["add"]).kiq(1)
        await bare.has_logged('task "taskiq_flow:step" is not found')
        with caplog.at_level(logging.WARNING), pytest.raises(PipelineTimeoutError):
            await task.wait_result(timeout=5.5)
        status = await task.get_status()

        bare.kill()
        await app.start()
        result = await task.wait_result(timeout=30)
        after = await task.get_status()

    assert status.note is not None
    assert "no live worker serves queue ListQueueBroker:" in status.note
    assert app.settings.queue in status.note
    assert "PipelineMiddleware" in status.note
    assert status.note in caplog.text
    assert result.return_value == 2
    assert after.note is None


async def test_the_note_says_which_queues_are_served_instead(
    make_app: MakeApp, namespace: str
) -> None:
    """A server that goes by two names, for example, makes two queues of one."""
    served, other = make_app(namespace=namespace), make_app(namespace=namespace)
    await served.start()

    async with other.client() as client:
        task = await Pipeline(client.broker, client["add"]).kiq(1)
        status = await task.get_status()

    assert status.note is not None
    assert "there are workers of ListQueueBroker:" in status.note
    assert served.settings.queue in status.note
