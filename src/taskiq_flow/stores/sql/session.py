"""How an operation talks to its database: whole statements in, plain rows out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeAlias, TypeVar, cast

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Double, Table, Text, bindparam
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.types import Boolean, TypeEngine

from taskiq_flow.stores.base import Held

if TYPE_CHECKING:
    from taskiq_flow.stores.sql.loaded import LoadedRun

Row: TypeAlias = Sequence[Any]
ResultT = TypeVar("ResultT")


class Mode(StrEnum):
    """What an operation does, so that no database does more for it than it needs."""

    READ = "read"  # statements that need not agree on one moment
    STATEMENT = "statement"  # one `Session.write`, atomic by itself
    WRITE = "write"  # reads what it locks, then writes


class Verb(StrEnum):
    """What is done with the rows of a `Target`."""

    INSERT = "insert"
    UPSERT = "upsert"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Rows of one shape for one table; ``keys`` are the columns that find a row.

    Each is made once, as a constant, so that it is found by what it is and not by what it says.
    """

    verb: Verb
    table: Table
    keys: tuple[str, ...]
    rest: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.keys, *self.rest)


Writes: TypeAlias = defaultdict[Target, list[tuple[Any, ...]]]
"""Rows that are to be written, gathered so that they leave in one go."""


class Place(NamedTuple):
    """A run with the slot of a step that is looked at.

    The rows are those of `RUN_LOADED`, of a step (``idx``, `STEP_FIXED`, `STEP_CHANGES`) and of
    `SLOT_CHANGES`.
    """

    run: Row
    step: Row
    slot: Row


class ConflictError(Exception):
    """A row that was to be inserted is there already; the operation was undone."""


class Compiled(NamedTuple):
    """A statement in the words of one database, with the order of its parameters."""

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        if self.constants:
            values = {**self.constants, **values}
        return [values[name] for name in self.names]


class Compiler:
    """Compiles each statement once. SQLAlchemy's own path costs five times the statement."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known: dict[ClauseElement, Compiled] = {}

    def __call__(self, statement: ClauseElement) -> Compiled:
        known = self._known.get(statement)
        if known is None:
            compiled = cast(SQLCompiler, statement.compile(dialect=self._dialect))
            constants = {name: at for name, at in compiled.params.items() if at is not None}
            known = Compiled(str(compiled), tuple(compiled.positiontup or ()), constants)
            self._known[statement] = known
        return known


class Session(ABC):
    """One operation on one connection; plain calls, whatever waits behind them.

    What it leaves in ``writes`` is written when it ends.
    """

    def __init__(self, dialect: Dialect, namespace: str, clock: Callable[[], float] | None) -> None:
        self.dialect, self.namespace = dialect, namespace
        self.writes: Writes = defaultdict(list)
        self._clock = clock
        self._now: float | None = None

    @property
    def now(self) -> float:
        """The store's clock, the same for the whole operation."""
        if self._now is None:
            self._now = self._clock() if self._clock is not None else self._server_clock()
        return self._now

    def note_now(self, seen: float | None) -> None:
        """Take the time that a statement brought along (None: it brought none)."""
        if self._now is None and self._clock is None:
            self._now = seen

    @abstractmethod
    def rows(self, statement: ClauseElement, **values: Any) -> Sequence[Row]:
        """Run a query; a parameter for `one_of` is a list."""

    def row(self, statement: ClauseElement, **values: Any) -> Row | None:
        found = self.rows(statement, **values)
        return found[0] if found else None

    def pairs(self, statement: ClauseElement, **values: Any) -> dict[Any, Any]:
        """The rows of a query for two columns, the first of which finds the second."""
        return {key: value for key, value in self.rows(statement, **values)}  # noqa: C416 - typed

    @abstractmethod
    def execute(self, statement: ClauseElement, **values: Any) -> int:
        """Run a statement and return how many rows it touched."""

    @abstractmethod
    def write(self) -> None:
        """Write what is gathered; on PostgreSQL one statement, on SQLite perhaps at the very end.

        Raises:
            ConflictError: A row to be inserted is there already.
        """

    def catch_up(self) -> None:  # noqa: B027 - there is nothing to do where each writes at once
        """Have written what other operations of the same transaction are still to write."""

    def kept(self, run_id: str) -> LoadedRun | None:  # noqa: ARG002 - see SQLite
        """A run that an operation before this one has left as it stands in the database."""
        return None

    def keep(self, run: LoadedRun) -> None:  # noqa: B027 - the same
        """Leave a run, all of which is loaded and about to be saved, to later operations."""

    def forget(self, run_id: str) -> None:  # noqa: B027 - the same
        """Keep a run no more: it has ended, or is written in other ways."""

    def place(
        self,
        run_id: str,  # noqa: ARG002 - see SQLite
        at: tuple[int, int],  # noqa: ARG002
    ) -> Place | None:
        """A run and a place in it, read together where nobody else can write meanwhile."""
        return None

    def stored(self, text: str) -> str:
        """Text as this database holds it."""
        return text

    @abstractmethod
    def script(self, definitions: Sequence[str]) -> None:
        """Run statements that define tables."""

    @abstractmethod
    def has_table(self, name: str) -> bool: ...

    @abstractmethod
    def held(self, leases: Sequence[Held]) -> Sequence[Row]:
        """Rows of `statements.HELD`, for those that still hold their slot."""

    @abstractmethod
    def next_rid(self) -> int:
        """A number for a new run."""

    @abstractmethod
    def lock_name(self, name: str) -> None:
        """Wait until nobody else holds this name, until the transaction ends."""

    @abstractmethod
    def feed_position(self) -> str:
        """Where the feed stands now: all that was committed lies before it."""

    @abstractmethod
    def feed_rows(self, after: str, limit: int) -> tuple[Sequence[Row], str]:
        """Rows of `event` behind a position, in order, and the position after them."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What `health` tells of this database."""

    @abstractmethod
    def _server_clock(self) -> float: ...


class Condition(ColumnElement[bool]):
    """Stands in a ``WHERE`` as it is: ``… = 1``, as SQLite gets it by default, uses no index."""

    inherit_cache = False
    type = Boolean()

    def self_group(self, against: Any = None) -> Self:  # noqa: ARG002 - SQLAlchemy's signature
        return self


class one_of(Condition):  # noqa: N801 - reads like SQLAlchemy's own functions
    """``column IN (all of one list parameter)``: a fixed text for lists of any length."""

    inherit_cache = False

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        self.column = column
        kind = BigInteger() if column.type.python_type is int else Text()
        self.parameter = bindparam(name, type_=ARRAY(kind))


@compiles(one_of)
def _one_of(element: one_of, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.column, **kw)
    return f"{column} = ANY ({compiler.process(element.parameter, **kw)})"


@compiles(one_of, "sqlite")
def _one_of_sqlite(element: one_of, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.column, **kw)
    parameter = compiler.process(element.parameter, **kw)
    return f"{column} IN (SELECT value FROM json_each({parameter}))"  # noqa: S608 - compiled


class among(Condition):  # noqa: N801 - reads like SQLAlchemy's own functions
    """``column IN (query)``, answered by looking up each row that the query finds.

    PostgreSQL would read all steps of a run where it expects them to be few; an array it takes
    as keys of the index.
    """

    inherit_cache = False

    def __init__(self, column: ColumnElement[Any], query: SelectBase) -> None:
        self.column, self.query = column, query


@compiles(among)
def _among(element: among, compiler: SQLCompiler, **kw: Any) -> str:
    column, query = compiler.process(element.column, **kw), compiler.process(element.query, **kw)
    return f"{column} = ANY (ARRAY({query}))"


@compiles(among, "sqlite")
def _among_sqlite(element: among, compiler: SQLCompiler, **kw: Any) -> str:
    column, query = compiler.process(element.column, **kw), compiler.process(element.query, **kw)
    return f"{column} IN ({query})"


class in_c(FunctionElement[str]):  # noqa: N801 - reads like SQLAlchemy's own functions
    """A text under a collation of its own: the same text, but it leads to no index without it.

    So a planner has no choice, whatever it believes to know. SQLite needs no telling.
    """

    inherit_cache = True
    type: TypeEngine[str] = Text()
    collation: ClassVar[str] = "C"


class in_posix(in_c):  # noqa: N801 - the same
    """The same under another one."""

    inherit_cache = True
    collation: ClassVar[str] = "POSIX"


@compiles(in_c)
def _in_c(element: in_c, compiler: SQLCompiler, **kw: Any) -> str:
    return f'{compiler.process(element.clauses, **kw)} COLLATE "{element.collation}"'


@compiles(in_c, "sqlite")
def _in_c_sqlite(element: in_c, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


class server_clock(FunctionElement[float]):  # noqa: N801 - reads like SQLAlchemy's own functions
    """The database's time of day where it has one; not ``now()``, which is when it began."""

    inherit_cache = True
    type: TypeEngine[float] = Double(asdecimal=False)


@compiles(server_clock)
def _server_clock(_element: server_clock, _compiler: SQLCompiler, **_: Any) -> str:
    return "extract(epoch FROM clock_timestamp())::float8"


@compiles(server_clock, "sqlite")
def _server_clock_sqlite(_element: server_clock, _compiler: SQLCompiler, **_: Any) -> str:
    # The process has the same clock as the file's other users, and a finer one than SQLite.
    return "NULL"
