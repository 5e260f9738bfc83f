"""Short runs that a connection keeps from one operation to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from taskiq_flow.stores.sql.loaded import LoadedRun

KEPT_MOST: Final = 2000
"""Runs that are kept at the same time; the newest ones, since they are begun next."""


class KeptRuns(dict[str, "LoadedRun"]):
    """Runs as they stand in the database, by their ids, as long as nobody else writes to it.

    Whoever owns them finds that out and clears them; also when a transaction is undone, and one
    run is forgotten when an operation on it fails. Whatever writes rows of a run without the run
    itself forgets it too.
    """

    def trim(self) -> None:
        """Forget those that are too many, the oldest first."""
        while len(self) > KEPT_MOST:
            del self[next(iter(self))]
