"""``taskiq-flow migrate``: what format a store has, and bringing it to this version's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from taskiq_flow.cli.common import Settings, command
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.stores.base import FORMAT_VERSION
from taskiq_flow.stores.factory import make_store, store_options


@command
async def migrate(settings: Settings) -> None:
    """Bring a store to this version's format; makes a new store ready too.

    Stop the workers before, and make a backup. Without anything to do it only says so.
    """
    store = make_store(settings.store_url, store_options(TaskiqFlowConfig()))
    # Only SQL stores have tables that can be changed in place; others say what they need.
    change: Callable[[], Awaitable[tuple[str, ...]]] | None = getattr(store, "migrate", None)
    try:
        passed = () if change is None else await change()
        await store.open()
    finally:
        await store.close()
    if settings.as_json:
        settings.output.json({"format": FORMAT_VERSION, "passed": passed})
    elif passed:
        settings.output.line(f"Now of format {FORMAT_VERSION}, by way of {', '.join(passed)}.")
    else:
        settings.output.line(f"Of format {FORMAT_VERSION}, as this version needs it.")
