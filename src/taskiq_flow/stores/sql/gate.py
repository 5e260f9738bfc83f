"""The way into one database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from taskiq_flow.stores.sql.session import Mode, ResultT, Session


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What every way into a database is told; ``shown_url`` has no password.

    A statement, or the wait for a file that others write, may take ``timeout_seconds``.
    """

    shown_url: str
    namespace: str
    clock: Callable[[], float] | None
    timeout_seconds: float


class Gate(ABC):
    """Runs operations, each atomic, on connections that it opens when they are needed."""

    options: GateOptions

    @abstractmethod
    def run(
        self, work: Callable[[Session], ResultT], mode: Mode, about: str | None = None
    ) -> Awaitable[ResultT]:
        """Run an operation, again if the database asks for that.

        One that is ``about`` a run reads and writes nothing else, unless it calls
        `Session.catch_up` before; so it can be done together with others.

        Raises:
            StoreUnavailableError: It cannot be reached, or took too long.
            ConflictError: A row to be inserted is there already.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give up connections; the next operation opens new ones."""

    def leave(self) -> None:  # noqa: B027 - connections end with their event loop
        """Give up what outlives an event loop that is closed; called in another one."""

    def at_once(self) -> Gate | None:
        """One that runs operations in the thread of whoever asks, and never waits for a loop."""
        return None

    @abstractmethod
    def twin(self) -> Gate:
        """Another way into the same database, for another event loop."""
