"""What a store URL asks for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from taskiq_flow.databases.drivers import POSTGRES, SQLITE, driver_of
from taskiq_flow.exceptions import StoreUrlError
from taskiq_flow.stores.sql.gate import Gate, GateOptions

SYNCHRONOUS: Final = ("NORMAL", "FULL")
"""How sure a SQLite commit is: against a killed process, or against a power cut too."""


def open_gate(
    url: str, namespace: str, clock: Callable[[], float] | None, timeout_seconds: float
) -> Gate:
    """Choose the way into the database of a URL; its driver is imported only now.

    ``sqlite:///file.db?synchronous=FULL`` makes each commit wait for the disk.

    Raises:
        StoreUrlError: It names no database that runs can live in.
        MissingExtraError: Its driver is not installed.
    """
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreUrlError(url) from error
    options = GateOptions(without_password(parts), namespace, clock, timeout_seconds)
    driver = driver_of(parts.drivername)
    if driver == SQLITE:
        return _sqlite(url, parts, options)
    if driver == POSTGRES:
        _, _, rest = url.partition("://")
        gate = import_module("taskiq_flow.stores.sql.postgres").PostgresGate
        return gate(f"postgresql://{rest}", options)
    raise StoreUrlError(url)


def without_password(url: URL) -> str:
    """The URL as it may be shown; what follows ``?`` can hold a password too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _sqlite(url: str, parts: URL, options: GateOptions) -> Gate:
    query = dict(parts.query)
    synchronous = str(query.pop("synchronous", SYNCHRONOUS[0])).upper()
    # A database in memory would be another one for each connection; that is what memory:// is for.
    nowhere = not parts.database or parts.database == ":memory:" or parts.host
    if nowhere or query or synchronous not in SYNCHRONOUS:
        raise StoreUrlError(url)
    gate = import_module("taskiq_flow.stores.sql.sqlite").SqliteGate
    return gate(parts.database, options, synchronous=synchronous)
