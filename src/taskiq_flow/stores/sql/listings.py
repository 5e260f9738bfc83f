"""How runs are listed and counted: by the index that leads to them in the fewest rows."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from math import inf
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Double,
    FromClause,
    Select,
    bindparam,
    func,
    literal,
    literal_column,
    or_,
    select,
)

from taskiq_flow.model.records import RunFilter, RunSnapshot
from taskiq_flow.stores.base import Page
from taskiq_flow.stores.paging import cursor_after, numbered_place_of
from taskiq_flow.stores.sql import schema as s
from taskiq_flow.stores.sql.rows import RUN_SHOWN, to_snapshot
from taskiq_flow.stores.sql.session import Session
from taskiq_flow.stores.sql.statements import columns

SORTED_MOST: Final = 2_000
"""Runs that are put in order for one page; for more of them an order that is kept is walked."""

LOOKED_MOST: Final = 5_000
"""Rows of an index behind which a page comes short, if they fulfil too little of what is asked."""

WEIGHED: Final = (500, 6_000)
"""So far the entries of two indexes are counted, to see which one is shorter: at first a few."""

CLOCK_SECONDS: Final = 60.0
"""A run may seem to have ended before it was created, if the clock was set back by so much."""

ENDLESS: Final = 1 << 62

LAST_LETTER: Final = 0x10FFFF

_Condition: TypeAlias = ColumnElement[bool]


class Way(StrEnum):
    """An index to walk, by the fields of `RunFilter` that it finds; all but two by age."""

    AGE = "age"
    STATUS = "status"
    NAME = "name"
    KIND = "kind"
    NAME_STATUS = "name status"
    KIND_STATUS = "kind status"
    TAG = "tag"
    SEARCH = "search"
    ENDED = "ended_since ended_until status"

    @property
    def is_by_age(self) -> bool:
        return self not in (Way.SEARCH, Way.ENDED)


def list_runs(session: Session, which: RunFilter, cursor: str | None, limit: int) -> Page:
    asked = _asked(session, which)
    way = _ordered_way(session, asked)
    if which.ended_until is not None:
        # Nobody need look at those that came later.
        asked["until"] = min(asked.get("until", inf), which.ended_until + CLOCK_SECONDS)
    place: dict[str, float] = {}
    if cursor is not None:
        age, rid = numbered_place_of(cursor)
        place = {"last_age": age, "last_rid": rid}
    end = _end(session, asked, way, place)
    asked |= end
    statement = listing(frozenset(asked), way, goes_on=cursor is not None)
    rows = session.rows(statement, limit=limit + 1, **asked, **place)
    runs: tuple[RunSnapshot, ...] = tuple(to_snapshot(row[:-1]) for row in rows[:limit])
    if len(rows) > limit:
        return Page(runs, cursor_after(runs[-1].created_at, rows[limit - 1][-1]))
    return Page(runs, cursor_after(end["end_age"], end["end_rid"]) if end else None)


def count_runs(session: Session, where: RunFilter, at_most: int | None) -> int:
    asked = _asked(session, where)
    return _count(session, asked, _way(session, asked), ENDLESS if at_most is None else at_most)


def _asked(session: Session, which: RunFilter) -> dict[str, Any]:
    """The fields that narrow the listing, as parameters."""
    given = {
        "status": which.status and which.status.value,
        "name": which.name,
        "kind": which.kind,
        "tag": which.tag,
        "since": which.since,
        "until": which.until,
        "ended_since": which.ended_since,
        "ended_until": which.ended_until,
        "search": which.search or None,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    if which.search:
        asked["search"] = session.stored(which.search)
        asked["search_end"] = _after(asked["search"])
    return asked


def _after(beginning: str) -> str:
    """The first text that is behind all that begin so."""
    for number in reversed(range(len(beginning))):
        letter = ord(beginning[number])
        if letter < LAST_LETTER:
            following = 0xE000 if letter + 1 == 0xD800 else letter + 1  # no halves of letters
            return beginning[:number] + chr(following)
    return chr(LAST_LETTER) * (len(beginning) + 1)


def _way(session: Session, asked: dict[str, Any]) -> Way:
    """The index by which the fewest rows are looked at."""
    shortest, *others = _ways(asked)
    if not others:
        return shortest
    for most in WEIGHED:
        fewest = _count(session, _only(asked, shortest), shortest, most)
        for way in others:
            count = _count(session, _only(asked, way), way, fewest)
            if count < fewest:
                shortest, fewest = way, count
        if fewest < most:
            break
    return shortest


def _ordered_way(session: Session, asked: dict[str, Any]) -> Way:
    """The same, in order of age; in another order only where the rows are few."""
    way = _way(session, asked)
    if way.is_by_age or _count(session, _only(asked, way), way, SORTED_MOST) < SORTED_MOST:
        return way
    by_age = (way for way in _ways(asked) if way.is_by_age)
    return next(by_age, Way.STATUS if "status" in asked else Way.AGE)


def _ways(asked: dict[str, Any]) -> Iterator[Way]:
    """The indexes that could be walked, first what may be shortest.

    Those of two fields stand for those of one of them.
    """
    has_status = "status" in asked
    has_ended = "ended_since" in asked or "ended_until" in asked
    if "name" in asked:
        yield Way.NAME_STATUS if has_status else Way.NAME
    elif "kind" in asked:
        yield Way.KIND_STATUS if has_status else Way.KIND
    elif has_status and not has_ended:
        yield Way.STATUS
    elif not asked.keys() - {"since", "until"}:
        yield Way.AGE
    if "tag" in asked:
        yield Way.TAG
    if has_ended:
        yield Way.ENDED
    if "search" in asked and "name" not in asked:
        yield Way.SEARCH


def _end(
    session: Session, asked: dict[str, Any], way: Way, place: dict[str, float]
) -> dict[str, Any]:
    """Where a page has looked at enough, if there is more; what an index finds needs no looking."""
    times = {name: asked[name] for name in ("since", "until") if name in asked}
    own = _only(asked, way) | times
    if not way.is_by_age or own.keys() == asked.keys():
        return {}
    statement = reaching(frozenset(own), way, goes_on=bool(place))
    row = session.row(statement, looked=LOOKED_MOST, **own, **place)
    return {} if row is None else {"end_age": row[0], "end_rid": row[1]}


def _only(asked: dict[str, Any], way: Way) -> dict[str, Any]:
    """What an index finds by itself."""
    own = {*way.split(), "search_end"} if way is Way.SEARCH else set(way.split())
    return {name: value for name, value in asked.items() if name in own}


def _count(session: Session, asked: dict[str, Any], way: Way, most: int) -> int:
    row = session.row(counting(frozenset(asked), way), limit=most, **asked)
    return 0 if row is None else row[0]


# -- the statements, each built once

_ZERO: Final[ColumnElement[float]] = literal_column("0.0", Double(asdecimal=False))
_age: Final = s.run.c.created_at
_ended: Final = s.run.c.ended_at


@cache
def listing(fields: frozenset[str], way: Way, *, goes_on: bool) -> Select[Any]:
    """Runs newest first, narrowed by these fields, behind a cursor if it goes on."""
    age, rid = _place_on(way)
    return (
        select(*columns(s.run, RUN_SHOWN), rid)
        .select_from(_source(way))
        .where(*_conditions(fields, way), *_behind(way, goes_on=goes_on))
        .order_by(age.desc(), rid.desc())
        .limit(bindparam("limit"))
    )


@cache
def reaching(fields: frozenset[str], way: Way, *, goes_on: bool) -> Select[Any, int]:
    """The place so many rows further on in an index, of which ``fields`` says no more than it."""
    age, rid = _place_on(way)
    return (
        select(age, rid)
        .where(*_conditions(fields, way), *_behind(way, goes_on=goes_on))
        .order_by(age.desc(), rid.desc())
        .limit(1)
        .offset(bindparam("looked"))
    )


@cache
def counting(fields: frozenset[str], way: Way) -> Select[Any]:
    """How many there are of them, up to a limit.

    In order where the index has one, or a planner rather reads all of another that has more of
    what is checked.
    """
    source: FromClause = _source(way)
    if way is Way.TAG and fields <= {"tag", "since", "until"}:
        source = s.tag
    found = select(literal(1)).select_from(source).where(*_conditions(fields, way))
    if way.is_by_age:
        age, rid = _place_on(way)
        found = found.order_by(age.desc(), rid.desc())
    return select(func.count()).select_from(found.limit(bindparam("limit")).subquery())


def _source(way: Way) -> FromClause:
    return s.run.join(s.tag, s.tag.c.rid == s.run.c.rid) if way is Way.TAG else s.run


def _place_on(way: Way) -> tuple[ColumnElement[Any], ColumnElement[int]]:
    if way is Way.TAG:
        return s.tag.c.created_at, s.tag.c.rid
    return _age if way.is_by_age else _age + _ZERO, s.run.c.rid


def _behind(way: Way, *, goes_on: bool) -> Iterator[_Condition]:
    """Where a page goes on: the first half is what an index can use, the second what is meant."""
    age, rid = _place_on(way)
    if goes_on:
        yield age <= bindparam("last_age")
        yield or_(age < bindparam("last_age"), rid < bindparam("last_rid"))


def _conditions(fields: frozenset[str], way: Way) -> Iterator[_Condition]:
    """What the index finds, and in a form that leads to no other index, what is left to check.

    A planner cannot know which one is shorter: it sees no values, and PostgreSQL not even the
    sizes of a new table.
    """
    found = way.split()
    on_tag = way is Way.TAG
    yield _namespace(fields, way) == bindparam("namespace")
    if on_tag:
        yield s.tag.c.tag == bindparam("tag")
    elif "tag" in fields:
        tagged = select(s.tag.c.rid).where(
            s.tag.c.rid == s.run.c.rid, s.tag.c.tag == bindparam("tag")
        )
        yield tagged.correlate(s.run).scalar_subquery().is_not(None)
    for name in ("status", "name", "kind"):
        if name in fields:
            column = s.run.c[name]
            yield (column if name in found else column.concat("")) == bindparam(name)
    if "search" in fields:
        column = s.run.c.name if way is Way.SEARCH else s.run.c.name.concat("")
        yield column >= bindparam("search")
        yield column < bindparam("search_end")
    if fields & {"ended_since", "ended_until"}:
        ended = _ended if way is Way.ENDED else _ended + _ZERO
        if "ended_since" in fields:
            yield ended >= bindparam("ended_since")
        if "ended_until" in fields:
            yield ended < bindparam("ended_until")
    age, rid = _place_on(way)
    if "end_age" in fields:
        yield age >= bindparam("end_age")
        yield or_(age > bindparam("end_age"), rid >= bindparam("end_rid"))
    if "since" in fields:
        yield age >= bindparam("since")
    if "until" in fields:
        yield age < bindparam("until")


def _namespace(fields: frozenset[str], way: Way) -> ColumnElement[str]:
    """The namespace as the index of a way has it, and none that would find the same more slowly."""
    if way in (Way.NAME_STATUS, Way.KIND_STATUS):
        return s.namespace_c
    if way is Way.AGE or (way is Way.ENDED and "status" in fields):
        return s.namespace_posix
    return (s.tag if way is Way.TAG else s.run).c.namespace
