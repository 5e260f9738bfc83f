"""Calls a store that may be away until it answers."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from taskiq_flow.exceptions import StoreError

logger = logging.getLogger("taskiq_flow.engine")

T = TypeVar("T")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0


async def ask(
    call: Callable[[], Awaitable[T]],
    chance: random.Random,
    *,
    tries: int | None = None,
    until: Callable[[], bool] = lambda: False,
) -> T:
    """Call the store until it answers, ``tries`` times at the most, or until that is of no use.

    The engine's calls carry their token, so repeating one is safe.

    Raises:
        StoreError: The store did not answer, and it is time to give up.
    """
    pause, is_waiting = FIRST_PAUSE_SECONDS, False
    while True:
        try:
            return await call()
        except StoreError as error:
            if tries is not None:
                tries -= 1
            if tries == 0 or until():
                raise
            if not is_waiting:
                is_waiting = True
                logger.warning("The store does not answer, trying until it does: %s", error)
        await asyncio.sleep(pause * (1 + chance.random()))
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
