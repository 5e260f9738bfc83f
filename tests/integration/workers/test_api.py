"""The API on Redis, with a real worker: start a run, watch it, cancel it, retry it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from taskiq_flow import Pipeline, PipelineVisualizationAPI
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import App, Client, eventually

pytestmark = pytest.mark.redis

TOKEN = "the-token-of-an-admin"
HEADERS = {"authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def serving(app: App, client: Client) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the API of an application over the network."""
    settings = {
        "security_token": SecretStr(TOKEN),
        "websocket_heartbeat_seconds": 0.2,
        "websocket_max_connections": 1,  # so a stream that is not closed is missed by the next
    }
    api = PipelineVisualizationAPI(client.broker, config=app.config.model_copy(update=settings))
    api.add_pipeline("slow", Pipeline(client.broker, client["pause"]))
    api.add_pipeline("flaky", Pipeline(client.broker, client["flaky"]))
    server = uvicorn.Server(
        uvicorn.Config(api.get_app(), port=0, log_level="warning", lifespan="on")
    )
    running = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=address, headers=HEADERS, timeout=30) as http:
            yield http
    finally:
        server.should_exit = True
        await running


async def start(http: httpx.AsyncClient, pipeline: str, *args: Any) -> str:
    answer = await http.post(f"/pipelines/{pipeline}/execute", json={"args": list(args)})
    assert answer.status_code == 202, answer.text
    run_id: str = answer.json()["run_id"]
    return run_id


async def read_until(socket: Any, wanted: str) -> list[str]:
    """Read events until one of a type, pings left out; returns their types."""
    seen: list[str] = []
    while wanted not in seen:
        message = json.loads(await asyncio.wait_for(socket.recv(), 30))
        if message["type"] != "ping":
            seen.append(message["type"])
    return seen


async def test_a_run_is_started_watched_cancelled_and_retried_over_the_network(
    make_app: MakeApp,
) -> None:
    app = make_app()
    await app.start()

    async with app.client() as client, serving(app, client) as http:
        address = str(http.base_url).replace("http://", "ws://").rstrip("/")
        with pytest.raises(InvalidStatus):
            await connect(f"{address}/ws")

        # A run that is cancelled while its worker is at it.
        async with connect(f"{address}/ws", additional_headers=HEADERS) as socket:
            await socket.send(json.dumps({"type": "subscribe", "pipeline_id": "*"}))
            slow = await start(http, "slow", 60.0)
            await read_until(socket, "step_started")
            workers = (await http.get("/workers")).json()
            queues = (await http.get("/queues")).json()
            cancelled = await http.post(f"/runs/{slow}/cancel", json={"reason": "enough"})
            await read_until(socket, "run_cancelled")
        await eventually(lambda: len(app.journal.notes("pause", "cancelled")) == 1)

        # A run that fails, and goes on where it failed.
        failed = await start(http, "flaky", "key", 1)
        async with connect(f"{address}/ws/{failed}?token={TOKEN}") as socket:
            story = await read_until(socket, "end")
        retried = (await http.post(f"/runs/{failed}/retry")).json()
        async with http.stream("GET", f"/runs/{retried['run_id']}/stream") as stream:
            text = (await stream.aread()).decode()
        result = (await http.get(f"/runs/{retried['run_id']}/value")).json()

        # A stream that its reader leaves is closed, and no longer read for.
        async with http.stream("GET", "/stream") as stream:
            async for line in stream.aiter_lines():
                if line.startswith(": still here"):
                    break

        async def has_room() -> bool:
            return (await http.get(f"/runs/{failed}/stream")).status_code == 200

        await eventually(has_room)
        overview = (await http.get("/overview")).json()
        audit = (await http.get("/audit")).json()

    assert cancelled.json()["changed"] is True
    assert len(workers) == 1
    assert [(queue["running"], queue["note"]) for queue in queues] == [(1, None)]
    assert story[0] == "run_created"
    assert story[-2:] == ["run_failed", "end"]
    assert "event: run_completed" in text
    assert result["is_cut"] is False
    assert overview["counts"]["CANCELLED"] == 1
    assert overview["counts"]["COMPLETED"] == 1
    actions = [entry["action"] for entry in audit["entries"]]
    assert actions == ["retry", "start", "cancel", "start"]
