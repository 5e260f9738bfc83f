"""What the routes of one API share: its operations, its settings, who may come in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from taskiq import AsyncBroker

from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.exceptions import TooManyAttemptsError
from taskiq_flow.operations import Operations
from taskiq_flow.security import Limiter, PipelineAuthorization, Rate, Security


@dataclass(slots=True)
class ApiContext:
    """One API. Its operations are opened with the first request, in the loop that serves it."""

    broker: AsyncBroker | None
    config: TaskiqFlowConfig
    security: Security
    authorization: PipelineAuthorization
    redact: Callable[[str, Any], Any] | None = None
    given: Operations | None = None
    streams: int = 0
    _opened: Operations | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _opening: asyncio.Lock | None = None
    _limiters: list[tuple[str, Limiter]] = field(default_factory=list[tuple[str, Limiter]])

    def __post_init__(self) -> None:
        if self.config.rate_limit_enabled:
            rates = {**self.config.rate_limits, "*": self.config.rate_limit_default}
            self._limiters = [
                (glob, Limiter(Rate.read(rate, where=f"rate_limits[{glob}]")))
                for glob, rate in rates.items()
            ]

    async def operations(self) -> Operations:
        """The operations of this loop.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        if self.given is not None:
            return self.given
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._opening, self._opened = loop, asyncio.Lock(), None
        assert self._opening is not None
        async with self._opening:
            if self._opened is None:
                self._opened = await Operations.open(
                    broker=self.broker, redact=self.redact, config=self.config
                )
                if self.security.record is None:
                    self.security.record = self._opened.record
        return self._opened

    def count(self, path: str, who: str) -> None:
        """Count a request; the first glob that fits its path says which limit it counts for.

        Raises:
            TooManyAttemptsError: They have had as many as they may.
        """
        for glob, limiter in self._limiters:
            if fnmatchcase(path, glob):
                limiter.take(who)
                return

    @contextmanager
    def stream(self) -> Generator[None]:
        """Count a stream while it is open."""
        self.check_room()
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    def check_room(self) -> None:
        """Whether another stream may be opened.

        Raises:
            TooManyAttemptsError: There are as many as may be.
        """
        if self.streams >= self.config.websocket_max_connections:
            raise TooManyAttemptsError("open streams", 5.0)

    async def close(self) -> None:
        """Let go of what was opened here."""
        opened, self._opened, self._loop = self._opened, None, None
        if opened is not None:
            await opened.close()
