"""Tasks in a SQLite file."""

from __future__ import annotations

import os

from fastapi_taskflow.backends.base import StoreBackend


class SqliteBackend(StoreBackend):
    """A file that any number of processes of one machine share.

    ``max_workers`` is accepted and has no effect.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] = "tasks.db",
        *,
        max_workers: int = 4,  # noqa: ARG002 - of the documented signature
    ) -> None:
        self.db_path = os.fspath(db_path)
        super().__init__(f"sqlite:///{self.db_path}")
