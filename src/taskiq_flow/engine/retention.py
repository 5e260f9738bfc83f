"""Removes ended runs past their time from stores that do not forget by themselves."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from taskiq_flow.exceptions import StoreError
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("taskiq_flow.engine")

FIRST_SECONDS, EVERY_SECONDS = 10.0, 600.0
"""When a worker does so first, so that one that is often restarted does it too, and then."""

TOGETHER = 1000
"""So many are removed in one go, and others may write in between."""


async def keep_clean(store: RunStore) -> None:
    """Remove what has ended longer ago than the store's retention, until cancelled.

    All workers do; each at its own times.
    """
    pause = FIRST_SECONDS
    while True:
        await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
        pause = EVERY_SECONDS
        try:
            before = time.time() - store.options.retention_seconds
            while removed := await store.purge(before=before, limit=TOGETHER):
                logger.debug("Removed %d run(s) past their retention.", removed)
        except StoreError as error:
            logger.info("Runs past their retention are removed later: %s", error)
        except Exception:
            # What goes wrong here must not show anywhere else.
            logger.exception("Removing runs past their retention failed; trying again.")
