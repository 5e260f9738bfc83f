"""A run store in Redis: every operation is one call of the script beside this file."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

from taskiq_flow.exceptions import (
    BacklogFullError,
    DuplicatePipelineError,
    DuplicateTickError,
    RunNotFoundError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)
from taskiq_flow.model.records import (
    Address,
    EventRecord,
    Finished,
    Grant,
    Items,
    LostReason,
    NewRun,
    Outcome,
    Ready,
    Refusal,
    RefusalReason,
    RunFilter,
    RunSnapshot,
    RunStatus,
    StepSnapshot,
    StepTotal,
    Value,
    Wake,
    WakeKind,
    WorkerRecord,
)
from taskiq_flow.model.state import OpenSlots
from taskiq_flow.stores import redis_arguments as arguments
from taskiq_flow.stores import redis_replies as replies
from taskiq_flow.stores.base import (
    CHUNK,
    FORMAT_VERSION,
    Ending,
    EndListener,
    Held,
    Page,
    RunStore,
    StoreOptions,
)
from taskiq_flow.stores.redis_feed import RedisFeed
from taskiq_flow.stores.redis_listings import RedisListings
from taskiq_flow.stores.redis_wire import RedisEar, RedisWire, ReplyError

logger = logging.getLogger(__name__)

SCRIPT = resources.files("taskiq_flow.stores").joinpath("redis.lua").read_bytes()
SCRIPT_HASH = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest()


class RedisRunStore(RunStore):
    """Runs in a Redis server (6.2 or newer), as durable as that server is.

    One store belongs to one event loop and holds one connection, one more while it listens for
    ends, and one for each reader that waits for the feed. ``clock`` replaces the server's (for
    tests). ``timeout_seconds`` bounds how long a silent server is waited for, ``retry_seconds``
    how long an absent one. Other keyword arguments go to redis-py's connection.
    """

    shared = True

    def __init__(
        self,
        url: str,
        options: StoreOptions | None = None,
        *,
        clock: Callable[[], float] | None = None,
        prefix: str = "taskiq_flow:",
        **client_options: Any,
    ) -> None:
        super().__init__(url, options or StoreOptions())
        self._clock, self._prefix, self._client_options = clock, prefix, client_options
        self._base = f"{{{prefix}{self.options.namespace}}}:"
        pace, retention = self.options.pace, self.options.retention_seconds
        self._pace = (repr(pace.lease), repr(pace.kick), int(retention * 1000))
        self._wire = RedisWire(url, **client_options)
        self._feed = RedisFeed(self._call, self._key("feed"), url, client_options)
        self._listings = RedisListings(self._run)
        self._listeners: list[EndListener] = []
        self._ear: RedisEar | None = None

    async def open(self) -> None:
        await self._call("SCRIPT", "LOAD", SCRIPT)
        key = self._key("format")
        await self._call("SET", key, FORMAT_VERSION, "NX")
        found = (await self._call("GET", key)).decode()
        if found != FORMAT_VERSION:
            raise StoreFormatError(self._wire.shown_url, found, FORMAT_VERSION)

    async def close(self) -> None:
        if self._ear is not None:
            await self._ear.close()
            self._ear = None
        await self._feed.close()
        await self._wire.close()

    def twin(self, *, namespace: str | None = None) -> RedisRunStore:
        return RedisRunStore(
            self.url,
            replace(self.options, namespace=namespace or self.options.namespace),
            clock=self._clock,
            prefix=self._prefix,
            **self._client_options,
        )

    def _key(self, suffix: str) -> str:
        return self._base + suffix

    async def _call(self, *command: arguments.Argument) -> Any:
        try:
            return await self._wire.call(*command)
        except ReplyError as error:
            raise StoreError(f"The run store {self._wire.shown_url} answered: {error}") from error

    async def _run(self, operation: str, *own: arguments.Argument) -> Any:
        now = "" if self._clock is None else repr(self._clock())
        rest = (1, self._base, operation, now, *self._pace, *own)
        try:
            return await self._wire.call("EVALSHA", SCRIPT_HASH, *rest)
        except ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise StoreError(
                    f"The run store {self._wire.shown_url} answered: {error}"
                ) from error
        return await self._call("EVAL", SCRIPT, *rest)

    # -- the life of a run

    async def create(
        self, new: NewRun, items: Mapping[int, Iterable[bytes]] | None = None
    ) -> tuple[Ready, ...]:
        answer = await self._create(new, items or {}, None)
        assert not isinstance(answer, Grant), "nothing is granted without a token"
        return answer

    async def create_started(self, new: NewRun, token: str) -> Grant | tuple[Ready, ...]:
        return await self._create(new, {}, token)

    async def _create(
        self, new: NewRun, items: Mapping[int, Iterable[bytes]], token: str | None
    ) -> Grant | tuple[Ready, ...]:
        part: list[arguments.Argument] | None = None
        for following in arguments.parts(new, items):
            if part is not None and not await self._run("part", new.run_id, *part):
                break  # it was sealed before: this call is a repetition
            part = following
        told = arguments.header(new), arguments.setup(new, token), *(part or ())
        reply = await self._run("create", new.run_id, *told)
        match reply[0]:
            case b"key":
                raise DuplicatePipelineError(new.key or "", reply[1].decode())
            case b"tick":
                raise DuplicateTickError(new.tick or "")
            case b"backlog":
                raise BacklogFullError(*(new.backlog or ("", 0)))
            case b"expired":
                raise StoreUnavailableError(
                    self._wire.shown_url, "parts of the run expired while it was being created"
                )
            case _ if len(reply) > 2:
                return replies.grant(new.run_id, reply[2])
            case _:
                return replies.ready(reply[1])

    async def start(self, address: Address, token: str, *, want: int = 1) -> Grant | Refusal:
        reply = await self._run("start", *address, token, want)
        if not reply[0]:
            return replies.grant(address.run_id, reply[1])
        retry_at = float(reply[1]) if len(reply) > 1 else None
        return Refusal(RefusalReason(reply[0].decode()), retry_at)

    async def finish(
        self, address: Address, token: str, outcome: Outcome, next_token: str | None
    ) -> Finished:
        want = outcome.want if isinstance(outcome, Items) else 1
        told = arguments.outcome_arguments(outcome)
        reply = await self._run("finish", *address, token, next_token or "", want, *told)
        return replies.finished(address.run_id, reply)

    async def renew(self, held: Sequence[Held]) -> dict[str, LostReason]:
        lost: dict[str, LostReason] = {}
        for first in range(0, len(held), CHUNK):
            leases: list[arguments.Argument] = []
            for lease in held[first : first + CHUNK]:
                leases += (*lease.address, lease.token)
            reply = await self._run("renew", *leases)
            for token, reason in zip(reply[::2], reply[1::2], strict=True):
                lost[token.decode()] = LostReason(reason.decode())
        return lost

    async def release(
        self, address: Address, token: str, *, delay_seconds: float = 0.0
    ) -> tuple[Ready, ...]:
        return replies.ready(await self._run("release", *address, token, repr(delay_seconds)))

    async def due(self, queues: Sequence[str], *, limit: int = 100) -> tuple[Wake, ...]:
        return replies.wakes(await self._run("due", "", limit, *queues))

    async def settle(self, run_id: str, kind: WakeKind) -> None:
        await self._run("settle", run_id, kind)

    async def cancel(self, run_id: str, reason: str) -> bool:
        return bool(await self._run("cancel", run_id, reason, secrets.token_hex(8)))

    async def resume(self, address: Address, note: str) -> tuple[Ready, ...]:
        return replies.ready(await self._run("resume", *address, note))

    async def send_event(self, run_id: str, name: str, payload: bytes) -> tuple[Ready, ...] | None:
        reply = await self._run("send_event", run_id, name, payload)
        return None if reply is None else replies.ready(reply)

    # -- values

    async def put_items(self, held: Held, key: int, start: int, values: Sequence[bytes]) -> bool:
        return bool(await self._run("put_items", *held.address, held.token, key, start, *values))

    async def items(self, run_id: str, key: int, start: int, stop: int) -> list[bytes | None]:
        found: list[bytes | None] = []
        for first in range(start, stop, CHUNK):
            numbers = range(first, min(first + CHUNK, stop))
            found += await self._call("HMGET", self._key(f"q:{run_id}:{key}"), *numbers)
        return found

    async def values(self, run_id: str, keys: Sequence[int]) -> dict[int, Value]:
        found: dict[int, Value] = {}
        for first in range(0, len(keys), CHUNK):
            page = keys[first : first + CHUNK]
            reply = await self._run("values", run_id, *page)
            found |= {} if reply is None else replies.values(page, reply)
        return found

    # -- reading

    async def get(self, run_id: str, *, steps: bool = True) -> RunSnapshot | None:
        reply = await self._run("get", run_id, 0, CHUNK - 1 if steps else -1)
        if reply is None:
            return None
        run = replies.snapshot(reply[0])
        if not steps:
            return run
        # Later pages may be younger than the first, never older: a step that has ended by then
        # is shown in a run that had not.
        found: list[StepSnapshot] = [replies.step_snapshot(row, run.status) for row in reply[1]]
        for first in range(CHUNK, run.total, CHUNK):
            reply = await self._run("get", run_id, first, first + CHUNK - 1)
            found += [replies.step_snapshot(row, run.status) for row in (reply or (None, ()))[1]]
        return replies.with_steps(run, found)

    async def open_slots(
        self, run_id: str, steps: Sequence[int], *, limits: Sequence[str] = (), limit: int = 200
    ) -> OpenSlots:
        wanted = (limit, len(limits), *limits, *sorted(steps)[:CHUNK])
        return replies.open_slots(limits, await self._run("slots", run_id, *wanted))

    async def ending(self, run_id: str, keys: Sequence[int]) -> Ending | None:
        reply = await self._run("ending", run_id, *keys[:CHUNK])
        if reply is None:
            return None
        if reply == b"gone":
            raise RunNotFoundError(run_id)
        found = replies.values(keys[:CHUNK], reply[1])
        if len(keys) > CHUNK:
            found |= await self.values(run_id, keys[CHUNK:])
        return Ending(replies.snapshot(reply[0]), found)

    async def find(self, key: str) -> str | None:
        run_id = await self._call("GET", self._key(f"key:{key}"))
        return None if run_id is None else run_id.decode()

    async def plan(self, run_id: str) -> bytes | None:
        return await self._run("plan", run_id)

    async def list_runs(
        self, which: RunFilter, *, cursor: str | None = None, limit: int = 100
    ) -> Page:
        return await self._listings.page(which, cursor, limit)

    async def count_runs(self, where: RunFilter, *, at_most: int | None = None) -> int:
        return await self._listings.count(where, at_most)

    async def count_ended(
        self, *, since: float, until: float, buckets: int
    ) -> list[dict[RunStatus, int]]:
        return await self._listings.ended(since, until, buckets)

    async def step_totals(self, *, newest: int = 200) -> list[StepTotal]:
        return await self._listings.step_totals(newest)

    async def delete(self, run_id: str) -> bool:
        return bool(await self._run("delete", run_id))

    async def purge(self, *, before: float, limit: int = 1000) -> int:
        removed = 0
        while removed < limit:
            count = await self._run("purge", "", repr(before), min(100, limit - removed))
            removed += count
            if not count:
                break
        return removed

    async def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRecord]:
        found = await self._call("LRANGE", self._key(f"e:{run_id}"), after, after + limit - 1)
        return [replies.event(run_id, after + k, row) for k, row in enumerate(found, 1)]

    async def feed(
        self, *, after: str | None = None, limit: int = 1000, wait_seconds: float = 0.0
    ) -> tuple[list[EventRecord], str]:
        return await self._feed.read(after, limit, wait_seconds)

    # -- notes that steps leave while they run

    async def note_progress(self, run_id: str, step: int, progress: bytes) -> None:
        await self._run("note_progress", run_id, step, progress)

    async def append_log(self, run_id: str, lines: Sequence[bytes]) -> None:
        for first in range(0, len(lines), CHUNK):
            await self._run("append_log", run_id, *lines[first : first + CHUNK])

    async def log(
        self, run_id: str, *, after: int = 0, limit: int = 1000
    ) -> tuple[list[bytes], int]:
        start, lines = await self._run("log", run_id, after, limit)
        return lines, start + len(lines)

    # -- who waits, who works

    async def listen(self, listener: EndListener) -> bool:
        if listener not in self._listeners:
            self._listeners.append(listener)
        if self._ear is None or not self._ear.is_of_this_loop:
            self._ear = RedisEar(self.url, self._key("ended"), self._heard, **self._client_options)
        await self._ear.ready()
        return True

    def _heard(self, message: bytes) -> None:
        run_id, _, status = message.decode().rpartition(" ")
        for listener in self._listeners:
            try:
                listener(run_id, RunStatus(status))
            except Exception:  # foreign code: it must not cost the others their message
                logger.exception("A listener failed on the end of run %s", run_id)

    async def ended_among(self, run_ids: Sequence[str]) -> dict[str, RunStatus]:
        found: dict[str, RunStatus] = {}
        for first in range(0, len(run_ids), CHUNK):
            reply = await self._run("ended_among", *run_ids[first : first + CHUNK])
            for run_id, status in zip(reply[::2], reply[1::2], strict=True):
                found[run_id.decode()] = RunStatus(status.decode())
        return found

    async def announce(self, worker: WorkerRecord, *, ttl_seconds: float) -> None:
        record = arguments.worker_argument(worker)
        await self._run("announce", worker.worker_id, record, repr(ttl_seconds))

    async def withdraw(self, worker_id: str) -> None:
        await self._run("withdraw", worker_id)

    async def workers(self) -> list[WorkerRecord]:
        return [replies.worker(row) for row in await self._run("workers", "")]

    async def health(self) -> dict[str, Any]:
        began = time.perf_counter()
        await self._call("PING")
        latency = (time.perf_counter() - began) * 1000
        info = await self._call("INFO")
        try:
            policy = (await self._wire.call("CONFIG", "GET", "appendfsync"))[1].decode()
        except (ReplyError, StoreUnavailableError, IndexError):  # often forbidden where managed
            policy = None
        facts = replies.server_facts(info, policy)
        return {**facts, "namespace": self.options.namespace, "latency_ms": round(latency, 3)}
