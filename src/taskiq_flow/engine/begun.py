"""Tells a broker that work has begun on its message, as soon as that is so."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

logger = logging.getLogger("taskiq_flow.engine")

Acknowledge: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Begun:
    """Tells the broker of a message, once, that work has begun on it."""

    acknowledge: Acknowledge | None

    async def say(self) -> None:
        """Acknowledge, unless that was done; a broker that fails then is of no importance."""
        acknowledge, self.acknowledge = self.acknowledge, None
        if acknowledge is not None:
            try:
                await acknowledge()
            except Exception as error:  # noqa: BLE001 - any broker, any error
                logger.warning("The broker did not take an acknowledgement: %r", error)
