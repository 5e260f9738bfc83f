"""Short runs that a connection keeps from one operation to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from taskiq_flow.stores.sql.loaded import LoadedRun

KEPT_MOST: Final = 2000
"""Runs that are kept at the same time; the newest ones, since they are begun next."""


class KeptRuns:
    """Runs as they stand in the database, as long as nobody else writes to it.

    Whoever owns them finds that out and clears them; also when a transaction is undone, and one
    run is forgotten when an operation on it fails. Whatever writes rows of a run without the run
    itself forgets it too.
    """

    def __init__(self) -> None:
        self._known: dict[str, LoadedRun] = {}

    def get(self, run_id: str) -> LoadedRun | None:
        return self._known.get(run_id)

    def put(self, run: LoadedRun) -> None:
        self._known[run.run_id] = run

    def forget(self, run_id: str) -> None:
        self._known.pop(run_id, None)

    def trim(self) -> None:
        """Forget those that are too many, the oldest first."""
        while len(self._known) > KEPT_MOST:
            del self._known[next(iter(self._known))]

    def clear(self) -> None:
        self._known.clear()
