"""How the tables come to be, and how they come from one format to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import create_mock_engine
from sqlalchemy.engine.interfaces import Dialect

from taskiq_flow.exceptions import StoreFormatError
from taskiq_flow.stores.base import FORMAT_VERSION
from taskiq_flow.stores.sql import schema, statements
from taskiq_flow.stores.sql.session import Session, Target, Verb

META: Final = Target(Verb.UPSERT, schema.meta, ("name",), ("value",))
_LOCK: Final = "schema"


@dataclass(frozen=True, slots=True)
class Migration:
    """What turns one format into the next, in words that both databases know."""

    before: str
    after: str
    statements: tuple[str, ...]


MIGRATIONS: Final[tuple[Migration, ...]] = ()
"""In order: each begins with the format that the one before it leaves."""


def check(session: Session, url: str) -> bool:
    """Say whether the tables are there.

    Raises:
        StoreFormatError: Another version wrote them.
    """
    found = _format(session)
    if found is not None and found != FORMAT_VERSION:
        raise StoreFormatError(url, found, FORMAT_VERSION)
    return found is not None


def create(session: Session, url: str) -> None:
    """Create the tables, unless another process has done so meanwhile."""
    session.lock_name(_LOCK)
    if not check(session, url):
        session.script(definitions(session.dialect))
        _note_format(session, FORMAT_VERSION)


def migrate(session: Session, url: str) -> tuple[str, ...]:
    """Bring the tables up to this version's format; return the formats that were passed.

    Raises:
        StoreFormatError: No migration leads from their format to ours.
    """
    session.lock_name(_LOCK)
    found = _format(session)
    passed: list[str] = []
    for migration in MIGRATIONS:
        if migration.before == found:
            session.script(migration.statements)
            found = migration.after
            passed.append(found)
    if found not in (None, FORMAT_VERSION):
        raise StoreFormatError(url, found or "", FORMAT_VERSION)
    if passed:
        _note_format(session, FORMAT_VERSION)
    return tuple(passed)


def definitions(dialect: Dialect) -> tuple[str, ...]:
    """The statements that create everything."""
    found: list[str] = []

    def note(definition: Any, *_: object, **__: object) -> None:
        found.append(str(definition.compile(dialect=dialect)))

    schema.metadata.create_all(create_mock_engine(f"{dialect.name}://", note), checkfirst=False)
    return tuple(found)


def _format(session: Session) -> str | None:
    if not session.has_table(schema.meta.name):
        return None
    row = session.row(statements.FORMAT)
    return None if row is None else row[0]


def _note_format(session: Session, version: str) -> None:
    session.writes[META].append(("format", version))
