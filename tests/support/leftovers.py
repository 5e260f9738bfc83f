"""Looks at what tests have left on the servers: everything of ours goes by itself, or has a reason.

Keys of Redis are looked at when all tests are done, and the databases of PostgreSQL before each is
dropped. What tests keep under prefixes of their own is theirs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any, cast

import asyncpg
from redis import Redis

from taskiq_flow.model.records import RunStatus

STORE = re.compile(r"\{taskiq_flow:(?P<namespace>.*?)\}:(?P<rest>.*)", re.DOTALL)
OF_RUN = re.compile(r"[rvelpbk]:(?P<run>.*)|[qyw]:(?P<mapped>.*):-?\d+", re.DOTALL)

# What of a run store stays without a time to live → why.
KEYS = {
    "format": "which version wrote the store",
    "clock": "when `due` was last called",
    "feed": "bounded by its length",
    "delays": "one number for each queue",
    "workers": "those that are silent go with the next that announces itself",
    "worker": "the same",
    "due:.*": "runs that go on, and ends that nobody has settled",
    "i:all|i:names|i:of|i:[a-z]:.*": "entries go with their runs",
    "key:.*": "a run of this name goes on",
    "backlog:.*": "runs that nobody has begun",
    "(schedules|audit|queues|periodic):.*": "values that users keep beside their runs",
    "[^:]+:index": "the names of such values; one goes with its value",
}

TABLES = {
    "run": "goes with `purge` or `delete`, once it has ended",
    **dict.fromkeys(
        ("tag", "plan", "step", "near", "slot", "value", "item", "retry", "inbox", "event", "log"),
        "goes with its run",
    ),
    "tick": "goes with `purge`, a week after it has fired",
    "limit": "one row for each limit",
    "hold": "one row for each holder, and the next one removes those that have expired",
    "queuer": "goes when its limit has room",
    "worker": "those that are silent go with the next that announces itself",
    "beat": "one row for each namespace",
    "delay": "one row for each queue",
    "meta": "which version wrote the store",
    "beside": "values that users keep beside their runs",
    **dict.fromkeys(("storage", "results"), "each row has its time, or is kept by choice"),
    **dict.fromkeys(("tracking", "tracking_tag"), "goes with `cleanup_older_than`"),
}
OF_A_RUN = [name for name, reason in TABLES.items() if reason == "goes with its run"]


def redis_namespaces(url: str) -> set[str]:
    """The namespaces of run stores that are there."""
    with Redis.from_url(url) as client:
        return {namespace_of(key.decode(errors="replace")) for key in _keys(client)}


def namespace_of(key: str) -> str:
    match = STORE.fullmatch(key)
    return match["namespace"] if match else ""


def redis_leftovers(url: str) -> list[str]:
    """Keys of run stores that will stay for ever and should not."""
    with Redis.from_url(url) as client:
        keys = _keys(client)
        lasting = [key for key, ttl in zip(keys, _ttls(client, keys), strict=True) if ttl == -1]
        going = _going(client, keys)
    return [name for key in lasting if (name := _leftover(key, going)) is not None]


def _keys(client: Redis) -> list[bytes]:
    return [key for key in client.scan_iter(count=1000) if key.startswith(b"{taskiq_flow:")]


def _ttls(client: Redis, keys: Iterable[bytes]) -> list[int]:
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.pttl(key)
        return pipeline.execute()


def _going(client: Redis, keys: Iterable[bytes]) -> set[tuple[str, str]]:
    """The runs that have not ended, with their namespaces."""
    found: set[tuple[str, str]] = set()
    for status in (RunStatus.PENDING, RunStatus.RUNNING):
        for key in keys:
            match = STORE.fullmatch(key.decode(errors="replace"))
            if match and match["rest"] == f"i:s:{status}":
                members = cast("list[bytes]", client.zrange(key, 0, -1))
                found |= {(match["namespace"], run.decode(errors="replace")) for run in members}
    return found


def _leftover(key: bytes, going: set[tuple[str, str]]) -> str | None:
    name = key.decode(errors="replace")
    match = STORE.fullmatch(name)
    if match is None:
        return name
    if any(re.fullmatch(reason, match["rest"], re.DOTALL) for reason in KEYS):
        return None
    own = OF_RUN.fullmatch(match["rest"])
    run = None if own is None else own["run"] or own["mapped"]
    return None if (match["namespace"], run) in going else name


def postgres_leftovers(url: str) -> list[str]:
    """Tables without a reason to stay, and rows of runs that are gone."""
    return asyncio.run(_postgres_leftovers(url))


async def _postgres_leftovers(url: str) -> list[str]:
    connection: Any = await asyncpg.connect(url)
    try:
        asked = "SELECT tablename FROM pg_tables WHERE tablename LIKE 'taskiq\\_flow\\_%'"
        tables = {row[0].removeprefix("taskiq_flow_") for row in await connection.fetch(asked)}
        found = [f"table taskiq_flow_{name}" for name in sorted(tables - TABLES.keys())]
        for name in OF_A_RUN if "run" in tables else ():
            orphans = await connection.fetchval(
                f"SELECT count(*) FROM taskiq_flow_{name} AS t WHERE NOT EXISTS "
                "(SELECT 1 FROM taskiq_flow_run AS run WHERE run.rid = t.rid)"
            )
            found += [f"{orphans} rows of taskiq_flow_{name} whose run is gone"] * bool(orphans)
        return found
    finally:
        await connection.close()
