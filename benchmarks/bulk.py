"""Stores many copies of a run that really ran, with a few statements or calls of a script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import count
from typing import Any, NamedTuple

from redis.asyncio import Redis
from sqlalchemy import bindparam, select, text

from taskiq_flow.model.records import RunSnapshot
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.redis import RedisRunStore
from taskiq_flow.stores.redis_arguments import indexes
from taskiq_flow.stores.sql import SqlRunStore, schema
from taskiq_flow.stores.sql.creation import TAGS
from taskiq_flow.stores.sql.rows import to_json
from taskiq_flow.stores.sql.session import Mode, Session, Target, Verb

TOGETHER = 500
"""Copies that are written at once."""

SCRIPT = resources.files("benchmarks").joinpath("copies.lua").read_text(encoding="utf-8")


class Copy(NamedTuple):
    """What a copy has of its own; all else is that of the example, its times moved along."""

    run_id: str
    name: str
    kind: str
    tags: tuple[str, ...]
    created_at: float


async def copy_run(store: RunStore, example: str, copies: Sequence[Copy]) -> None:
    """Store copies of an ended run that has no name of its own, and no items.

    Nothing else may write meanwhile.
    """
    run = await store.get(example, steps=False)
    assert run is not None
    assert run.status.is_final
    assert run.key is None
    for first in range(0, len(copies), TOGETHER):
        together = copies[first : first + TOGETHER]
        if isinstance(store, SqlRunStore):
            gate: Any = vars(store)["_gate"]
            await gate.run(lambda session, some=together: _write(session, run, some), Mode.WRITE)
        elif isinstance(store, RedisRunStore):
            await _evaluate(store, run, together)
        else:
            raise TypeError(f"{type(store).__name__} has no quick way to be filled")


# -- Redis


async def _evaluate(store: RedisRunStore, run: RunSnapshot, copies: Sequence[Copy]) -> None:
    options: Any = store.options
    prefix = f"{{taskiq_flow:{options.namespace}}}:"
    arguments: list[str | int] = [run.run_id, int(options.retention_seconds * 1000)]
    async with Redis.from_url(store.url, decode_responses=True) as client:
        header = json.loads(await client.hget(f"{prefix}r:{run.run_id}", "j") or "")
        for copy in copies:
            own = header | {"name": copy.name, "kind": copy.kind, "tags": copy.tags}
            of = {"indexes": indexes(copy.name, copy.kind, copy.tags)}
            said = [json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in (own, of)]
            arguments += [copy.run_id, repr(copy.created_at), *said]
        await client.eval(SCRIPT, 1, prefix, *arguments)


# -- databases

_COPIED = [table for table in (schema.run, *schema.BELONGINGS) if table is not schema.tag]
_MOVED = {"created_at", "started_at", "ended_at", "deadline", "retry_at", "due", "ready_at", "at"}
_READS = [
    select(*(column for column in table.c if column.name != "id")).where(
        table.c.rid == bindparam("rid")
    )
    for table in _COPIED
]
_TARGETS = [
    Target(Verb.INSERT, table, (), tuple(column.name for column in table.c if column.name != "id"))
    for table in _COPIED
]
_NUMBER = select(schema.run.c.rid).where(
    schema.run.c.run_id == bindparam("run_id"), schema.run.c.namespace == bindparam("namespace")
)
_LAST = text(f"SELECT coalesce(max(rid), 0) FROM {schema.run.name}")
_GO_ON = text(f"SELECT setval('{schema.run_ids.name}', CAST(:rid AS bigint))")


def _write(session: Session, run: RunSnapshot, copies: Sequence[Copy]) -> None:
    (example,) = session.rows(_NUMBER, run_id=run.run_id)[0]
    last = session.rows(_LAST)[0][0]
    for read, target in zip(_READS, _TARGETS, strict=True):
        names = target.columns
        rows = [dict(zip(names, row, strict=True)) for row in session.rows(read, rid=example)]
        for rid, copy in zip(count(last + 1), copies):
            moved = copy.created_at - run.created_at
            for row in rows:
                session.writes[target].append(tuple(_own(row, rid, copy, moved)))
    for rid, copy in zip(count(last + 1), copies):
        tags = dict.fromkeys(copy.tags)
        session.writes[TAGS] += [(rid, tag, session.namespace, copy.created_at) for tag in tags]
    if session.dialect.name == "postgresql":
        session.rows(_GO_ON, rid=last + len(copies))


def _own(row: dict[str, Any], rid: int, copy: Copy, moved: float) -> Iterator[Any]:
    own: dict[str, Any] = {"rid": rid}
    if "run_id" in row:
        own |= {"run_id": copy.run_id, "name": copy.name, "kind": copy.kind}
        own["tags"] = to_json(list(copy.tags))
    for name, value in row.items():
        is_time = name in _MOVED and isinstance(value, float)
        yield own.get(name, value + moved if is_time else value)
