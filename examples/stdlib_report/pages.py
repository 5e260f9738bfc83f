"""Serves the dashboard beside the job, where its packages are installed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module

from taskiq import AsyncBroker

from taskiq_flow.exceptions import MissingExtraError


@asynccontextmanager
async def dashboard_of(broker: AsyncBroker) -> AsyncGenerator[str | None]:
    """Serve the pages of a broker's runs; gives the address that logs its reader in."""
    # Not at the top: the processes that measure import what this process's main module does.
    serving = import_module("taskiq_flow.cli.dashboard")
    operations = import_module("taskiq_flow.operations").Operations
    async with await operations.open(broker=broker) as opened:
        try:
            security = serving.make_security()
        except MissingExtraError:
            yield None
            return
        async with serving.served(opened, security) as address:
            yield address
