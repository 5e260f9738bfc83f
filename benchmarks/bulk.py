"""Stores many ended runs in a database with a few statements."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from sqlalchemy import text

from taskiq_flow.model.records import NewRun, RunStatus
from taskiq_flow.stores.sql import SqlRunStore, creation, schema
from taskiq_flow.stores.sql.session import Mode, Session, Writes

MOMENT = 1e-5
"""Seconds between two runs that are stored together."""

LAST = text(f"SELECT coalesce(max(rid), 0) FROM {schema.run.name}")

Ended = tuple[NewRun, RunStatus, bytes]
"""A run that is over when it is stored, how it is to have ended, and its error if it failed."""


async def load_together(store: SqlRunStore, runs: Sequence[Ended]) -> None:
    """Store runs as the store itself would, but all of them in one go.

    Nothing else may write meanwhile, nor create runs afterwards: the numbers of runs are taken
    past the database's own count.
    """
    gate: Any = vars(store)["_gate"]
    await gate.run(lambda session: _write(session, store, runs), Mode.WRITE)


def _write(session: Session, store: SqlRunStore, runs: Sequence[Ended]) -> None:
    gathered = Writes()
    now, numbers = session.now, count(1 + session.rows(LAST)[0][0])
    own = vars(session)  # this very session: what its store writes is kept, and left at the end
    own.update(write=gathered.include, next_rid=numbers.__next__)
    for number, (run, _, _) in enumerate(runs):
        own["_now"] = now + number * MOMENT
        creation.create(session, run, {}, store.options.pace)
    del own["write"], own["next_rid"]
    columns = creation.RUNS.columns
    status, error = columns.index("status"), columns.index("error")
    rows = gathered.rows[creation.RUNS]
    for number, (_, end, why) in enumerate(runs):
        row = list(rows[number])
        row[status], row[error] = end.value, why if end is RunStatus.FAILED else None
        rows[number] = tuple(row)
    session.write(gathered)
