"""Lists, retries and removes what failed for good, and tells listeners of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

from taskiq import AsyncBroker

from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.dead_letters import (
    DeadLetter,
    DeadLetterDetails,
    DeadLetters,
    LetterFilter,
    inspect_letter,
    letters_of,
    list_letters,
)
from taskiq_flow.engine.forks import draft_retry
from taskiq_flow.events import EventType
from taskiq_flow.exceptions import (
    ConfigurationError,
    DuplicatePipelineError,
    InvalidTaskOptionError,
    NotADeadLetterError,
    RunNotFoundError,
    StoreError,
)
from taskiq_flow.model.numbers import is_count, is_number
from taskiq_flow.model.records import EventRecord, RunFilter, RunSnapshot, RunStatus
from taskiq_flow.observers import Delivery, EventBus, call_hook
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.factory import make_store, store_options

logger = logging.getLogger("taskiq_flow.client")

PAGE = 100


class DLQManager:
    """The dead letters of a broker's store, or of a store given by itself or by its URL.

    They are its failed runs, those that took their workers down included: nothing is copied, so
    nothing can be in two places. With ``queue`` only those are meant that a `RetryMiddleware` of
    this ``dlq_queue`` wrote. Without a broker a retry is found by the workers a few seconds later.

    Raises:
        ConfigurationError: Neither a broker nor a store was given.
    """

    def __init__(
        self,
        broker: AsyncBroker | None = None,
        *,
        store: RunStore | str | None = None,
        queue: str | None = None,
    ) -> None:
        if broker is None and store is None:
            raise ConfigurationError("DLQManager needs a broker, or store= (a store or its URL).")
        self.queue = queue
        self._client = None if broker is None else RunClient.of(broker)
        if store is not None and not isinstance(store, RunStore):
            store = make_store(store, store_options(TaskiqFlowConfig()))
        self._own = store
        self._listeners: dict[Callable[[DeadLetter], Any], Delivery] = {}
        self._bus: EventBus | None = None

    # -- looking

    async def list_failed(  # noqa: PLR0913 - each is a filter
        self,
        limit: int = PAGE,
        cursor: str | None = None,
        *,
        name: str | None = None,
        kind: str | None = None,
        tag: str | None = None,
        task: str | None = None,
        since: Any = None,
        until: Any = None,
        include_retried: bool = False,
        include_children: bool = False,
    ) -> DeadLetters:
        """One page of dead letters, newest first, at least ``limit`` of them if there are as many.

        ``page.cursor`` asks for the next. Filters: the pipeline's name, kind, a tag, the task
        that failed, when the run was created (aware times). What was retried is left out, and
        what is a step of another run.

        Raises:
            InvalidTaskOptionError: The limit is no count, a filter no text, or a time has no zone.
        """
        if not is_count(limit):
            raise InvalidTaskOptionError("limit", limit, "must be a whole number, 1 or more")
        which = self._which(name=name, kind=kind, tag=tag, task=task, since=since, until=until)
        which = replace(which, include_retried=include_retried, include_children=include_children)
        store = await self._store()
        return await list_letters(store, which, limit=limit, cursor=cursor)

    async def inspect(self, task_id: str) -> DeadLetterDetails:
        """All that is known of one: inputs, partial results, traceback, what became of each step.

        Raises:
            RunNotFoundError: There is no such run.
            NotADeadLetterError: It has not failed.
        """
        return await inspect_letter(await self._store(), task_id)

    # -- doing something about them

    async def retry_task(self, task_id: str) -> str:
        """Go on from the failed step in a new run; returns its id, the same however often called.

        Raises:
            RunNotFoundError: There is no such run.
            NotADeadLetterError: It has not failed.
            DuplicatePipelineError: Another run of its name is going.
        """
        store = await self._store()
        await self._failed(store, task_id)
        if self._client is not None and self._own is None:
            return await self._client.retry(task_id)
        draft = await draft_retry(store, task_id, publish=False)
        await store.create(draft.new, draft.items)
        return draft.new.run_id

    async def retry_all(self, **filters: Any) -> dict[str, str]:
        """Retry all that the filters of `list_failed` name; returns new ids by old ones.

        One whose name is taken by a run that goes on is left, and logged.
        """
        made: dict[str, str] = {}
        cursor: str | None = None
        while True:
            page = await self.list_failed(cursor=cursor, **filters)
            for letter in page:
                try:
                    made[letter.task_id] = await self.retry_task(letter.task_id)
                except DuplicatePipelineError as error:
                    logger.warning("Dead letter %s was not retried: %s", letter.task_id, error)
                except (RunNotFoundError, NotADeadLetterError):
                    continue  # removed meanwhile
            cursor = page.cursor
            if cursor is None:
                return made

    async def delete_task(self, task_id: str) -> bool:
        """Remove one with all that belongs to it; False when there is none.

        Raises:
            NotADeadLetterError: The run has not failed.
        """
        store = await self._store()
        try:
            await self._failed(store, task_id)
        except RunNotFoundError:
            return False
        return await store.delete(task_id)

    async def cleanup_older_than(self, seconds: float) -> int:
        """Remove those that failed longer ago than this, retried ones too; returns how many.

        Ended runs of every kind expire by themselves after the store's retention.

        Raises:
            InvalidTaskOptionError: It is no number of seconds, or negative.
        """
        if not is_number(seconds) or seconds < 0:
            rule = "must not be negative, and a number of seconds"
            raise InvalidTaskOptionError("seconds", seconds, rule)
        store, before = await self._store(), time.time() - seconds
        which = RunFilter(status=RunStatus.FAILED, tag=self.queue, until=before)
        removed, cursor = 0, None
        while True:
            page = await store.list_runs(which, cursor=cursor, limit=PAGE)
            for run in page.runs:
                if run.ended_at is not None and run.ended_at <= before:
                    removed += await store.delete(run.run_id)
            cursor = page.cursor
            if cursor is None:
                return removed

    # -- hearing of them

    def with_listener(self, listener: Callable[[DeadLetter], Any]) -> Self:
        """Call a function, sync or async, with each new dead letter, in this process.

        From `start` on, or ``async with``; with a broker at the latest from the next start of a
        run here. What it raises is logged. Every process that listens hears of all of them.
        """

        async def handle(event: EventRecord) -> None:
            store = await self._store()
            run = await store.get(event.run_id, steps=False)
            if run is None or (self.queue is not None and self.queue not in run.tags):
                return
            (letter,) = await letters_of(store, [run])
            if letter is not None:
                await call_hook(listener, letter)

        self._listeners[listener] = Delivery("A listener of dead letters", handle)
        if self._client is not None and self not in self._client.runtime.followers:
            self._client.runtime.followers.append(self)
        return self

    async def start(self) -> Self:
        """Listen from here on.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        store = await self._store()
        if self._client is not None and self._own is None:
            bus = self._client.runtime.bus
        else:
            bus = self._bus or EventBus(store)
        if self._bus is not bus:
            self._bus = bus
            bus.add(self._hear)
        await bus.begin()
        return self

    async def close(self) -> None:
        """Stop listening; a store that was given as a URL is closed too."""
        if self._client is not None and self in self._client.runtime.followers:
            self._client.runtime.followers.remove(self)
        await self.end()
        if self._own is not None:
            await self._own.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def begin(self) -> None:
        """As a follower of the engine: listen, unless nobody asked to."""
        if self._listeners and self._own is None:
            try:
                await self.start()
            except StoreError as error:
                logger.warning("Listeners hear of dead letters later: %s", error)

    async def settle(self, run_id: str) -> None:
        """As a follower of the engine: whoever waits for a run does not wait for listeners."""

    async def end(self) -> None:
        """As a follower of the engine: leave with it, after what has been heard was told."""
        bus, self._bus = self._bus, None
        if bus is not None:
            await bus.catch_up()
            bus.discard(self._hear)
            if self._client is None or self._own is not None:
                await bus.close()
        for delivery in self._listeners.values():
            await delivery.close(timeout_seconds=1.0)

    def _hear(self, event: EventRecord) -> None:
        if event.type is EventType.RUN_FAILED:
            for delivery in self._listeners.values():
                delivery.put(event)

    # -- where they are

    async def _store(self) -> RunStore:
        if self._own is not None:
            await self._own.open()
            return self._own
        assert self._client is not None, "one of the two was given"
        await self._client.open()
        return self._client.store

    async def _failed(self, store: RunStore, task_id: str) -> RunSnapshot:
        run = await store.get(task_id, steps=False)
        if run is None:
            raise RunNotFoundError(task_id)
        if run.status is not RunStatus.FAILED:
            raise NotADeadLetterError(task_id, run.status)
        return run

    def _which(self, *, tag: str | None, **filters: Any) -> LetterFilter:
        if tag is not None and self.queue is not None and tag != self.queue:
            raise InvalidTaskOptionError(
                "tag", tag, f"cannot be combined with queue={self.queue!r}; leave out one of them"
            )
        for name, given in {"tag": tag, **filters}.items():
            if given is None:
                continue
            if name not in ("since", "until"):
                if not isinstance(given, str):
                    raise InvalidTaskOptionError(name, given, "must be text")
            elif getattr(given, "tzinfo", None) is None:
                raise InvalidTaskOptionError(name, given, "must be a datetime with a time zone")
        return LetterFilter(tag=tag or self.queue, **filters)
