"""Keeps a screen up to date while somebody waits for a run; never fails or slows who waits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from taskiq_flow.display.looking import RunEye
from taskiq_flow.display.screens import Screen, make_screen
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import StoreError

logger = logging.getLogger("taskiq_flow.display")

SHARE = 10
"""A look that took long is followed by a pause so many times as long."""

LAST_LOOK_SECONDS = 1.0
"""How long the end of a run may wait to be shown."""


async def follow(eye: RunEye, screen: Screen) -> None:
    """Show a run until it has ended; a store that does not answer is asked again.

    Raises:
        RunNotFoundError: It is gone.
    """
    is_away = False
    while True:
        began = time.perf_counter()
        try:
            picture = await eye.look()
        except StoreError as error:
            if not is_away:
                screen.say(f"the store does not answer, asking again: {error}")
            is_away = True
        else:
            is_away = False
            screen.show(picture)
            if picture.has_ended:
                return
        took = time.perf_counter() - began
        await asyncio.sleep(max(screen.interval_seconds, SHARE * took))


@asynccontextmanager
async def shown(client: RunClient, run_id: str) -> AsyncGenerator[None]:
    """Show a run while the block waits for it.

    Raises:
        MissingExtraError: There is nothing to show it with.
    """
    screen = make_screen()
    eye = RunEye(client.store, run_id, client.why_stuck)
    following = asyncio.create_task(_begin(eye, screen))
    try:
        yield
        if not following.done():
            await _stop(following)
            await _last(eye, screen)
    finally:
        await _stop(following)
        with suppress(Exception):
            screen.end()


async def _stop(following: asyncio.Task[None]) -> None:
    following.cancel()
    await asyncio.wait([following])


async def _begin(eye: RunEye, screen: Screen) -> None:
    try:
        screen.begin()
        await follow(eye, screen)
    except Exception as error:  # noqa: BLE001 - of a terminal or notebook; the wait goes on
        logger.info("Run %s is not shown any more: %r", eye.run_id, error)


async def _last(eye: RunEye, screen: Screen) -> None:
    try:
        async with asyncio.timeout(LAST_LOOK_SECONDS):
            screen.show(await eye.look())
    except Exception as error:  # noqa: BLE001 - as above
        logger.info("The end of run %s is not shown: %r", eye.run_id, error)
