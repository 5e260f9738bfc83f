"""An application with a route of its own, the dashboard and the API over a cell's store."""

from __future__ import annotations

import asyncio
import sys

import uvicorn
from fastapi import FastAPI

from benchmarks.app import broker
from taskiq_flow.api import PipelineVisualizationAPI
from taskiq_flow.dashboard import create_app
from taskiq_flow.operations import Operations
from taskiq_flow.security import Security

TOKEN = "benchmark-token"
BEARER = {"authorization": f"Bearer {TOKEN}"}


async def host_app(operations: Operations) -> FastAPI:
    """The application; whoever asks for pages and data says `BEARER`."""
    app = FastAPI()
    security = Security(token=TOKEN)

    @app.get("/ping")
    async def ping() -> dict[str, str]:
        return {"answer": "pong"}

    PipelineVisualizationAPI(broker, app, security=security, operations=operations, prefix="/api")
    app.mount("/flow", create_app(operations, security=security))
    return app


async def serve(port: int) -> None:
    await broker.startup()
    async with await Operations.open(broker=broker) as operations:
        config = uvicorn.Config(await host_app(operations), port=port, log_level="error")
        await uvicorn.Server(config).serve()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
