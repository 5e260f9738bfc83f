"""Runs in SQLite or PostgreSQL; needs the extra ``sql``."""

from taskiq_flow.exceptions import MissingExtraError

try:
    from taskiq_flow.stores.sql.store import SqlRunStore
except ModuleNotFoundError as error:
    if error.name != "sqlalchemy":
        raise
    raise MissingExtraError("The SQL run store", "sql", "sqlalchemy") from error

__all__ = ["SqlRunStore"]
