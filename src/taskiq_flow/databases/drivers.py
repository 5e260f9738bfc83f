"""Which driver a database's URL means when it names none."""

from __future__ import annotations

from typing import Final

SQLITE: Final = "sqlite+aiosqlite"
POSTGRES: Final = "postgresql+asyncpg"

_DRIVERS: Final = {"sqlite": SQLITE, "postgres": POSTGRES, "postgresql": POSTGRES}


def driver_of(scheme: str) -> str:
    """The scheme with its driver; one that names a driver, or another database, as it is."""
    return _DRIVERS.get(scheme, scheme)


def with_driver(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return driver_of(scheme) + separator + rest
