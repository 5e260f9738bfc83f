"""Tasks in PostgreSQL."""

from __future__ import annotations

from fastapi_taskflow.backends.base import StoreBackend
from fastapi_taskflow.exceptions import BackendOptionError


class PostgresBackend(StoreBackend):
    """A PostgreSQL that any number of instances share.

    ``min_conn``, ``max_conn`` and ``max_workers`` are accepted and have no effect.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        pool: object = None,
        min_conn: int = 1,  # noqa: ARG002 - of the documented signature, as the next two
        max_conn: int = 5,  # noqa: ARG002
        max_workers: int = 4,  # noqa: ARG002
    ) -> None:
        if pool is not None:
            fix = "give the URL: the store opens its own connections, with another driver"
            raise BackendOptionError("PostgresBackend", "pool", fix)
        if not url:
            fix = "give the URL: postgresql://user:password@host/database"
            raise BackendOptionError("PostgresBackend", "url", fix)
        super().__init__(url)
