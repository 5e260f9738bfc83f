"""What users ask about runs, and by which they hear of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Self

from taskiq import AsyncBroker

from taskiq_flow.exceptions import NoTrackingStorageError, StoreError
from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.paging import checked_limit
from taskiq_flow.tracking import metrics
from taskiq_flow.tracking.attachment import Attachment
from taskiq_flow.tracking.listeners import Listener
from taskiq_flow.tracking.mirror import Mirror
from taskiq_flow.tracking.models import PipelineStatus, StatusPage, TrackingMetrics
from taskiq_flow.tracking.query import HistoryQuery, checked_days
from taskiq_flow.tracking.source import source_of
from taskiq_flow.tracking.storage import TrackingStorage, check_storage
from taskiq_flow.tracking.view import RunView, view_of

logger = logging.getLogger("taskiq_flow.tracking")

MAX_HISTORY = 1000
PAGE = 1000

NAMED_FAILURES = 1000
"""Of so many failed runs, the newest, the metrics look up the step that failed."""


class PipelineTrackingManager:
    """Shows the runs of a broker, and tells listeners of them, whichever process runs them.

    With `with_auto_storage` it shows what the engine has stored anyway: that costs a run nothing.
    With `with_storage` what happens is copied to a storage of your own too. A storage or listener
    that fails, hangs or is out of reach is logged, and changes nothing about a run.

    ``max_history`` bounds the ended runs that a store in memory keeps, unless ``auto_cleanup`` is
    off; stored runs are kept for ``TASKIQ_FLOW_RETENTION_SECONDS``.
    """

    def __init__(
        self,
        storage: TrackingStorage | None = None,
        max_history: int = MAX_HISTORY,
        auto_cleanup: bool = True,
    ) -> None:
        self.max_history = checked_limit(max_history, name="max_history")
        self.auto_cleanup = auto_cleanup
        self._storage: TrackingStorage | None = None
        self._mirror: Mirror | None = None
        self._attachments: list[Attachment] = []
        self._listeners: list[Listener] = []
        self._beginning: set[asyncio.Task[None]] = set()
        if storage is not None:
            self.with_storage(storage)

    # -- where it looks

    @property
    def storage(self) -> TrackingStorage | None:
        """Where the records are read; None before it was said or the first pipeline attached."""
        return self._storage

    def with_auto_storage(self, broker: AsyncBroker) -> Self:
        """Show the runs of a broker as the engine has stored them.

        Raises:
            NoStoreError: The broker has workers elsewhere, and no store is configured.
        """
        return self.with_storage(view_of(self._attach(broker).source))

    def with_storage(self, storage: TrackingStorage) -> Self:
        """Copy records to a storage, and read them from it.

        Of the pipelines that have `with_tracking`, or of all in the processes whose brokers have
        ``PipelineMiddleware(tracking=…)``.

        Raises:
            TrackingStorageError: It is not a `TrackingStorage`.
        """
        self._storage = check_storage(storage)
        self._mirror = None if isinstance(storage, RunView) else Mirror(storage)
        for attachment in self._attachments:
            attachment.mirror = self._mirror
        return self

    def attach(self, broker: AsyncBroker, *, every_run: bool = False) -> None:
        """Follow the runs of a broker; what `with_tracking` and the middleware call."""
        attachment = self._attach(broker)
        if self._storage is None:
            self._storage = view_of(attachment.source)
        attachment.mirror = self._mirror
        attachment.mirrors_all = attachment.mirrors_all or every_run

    def watch(self, broker: AsyncBroker, run_id: str) -> None:
        """Copy this run of an attached broker."""
        for attachment in self._attachments:
            if attachment.broker is broker:
                attachment.watch(run_id)

    # -- asking

    async def get_status(self, pipeline_id: str) -> PipelineStatus | None:
        """A run by its id, or the latest one of a name; None when there is none.

        Raises:
            NoTrackingStorageError: Neither a broker nor a storage was given.
        """
        return await self._asked.get_status(pipeline_id)

    async def list_pipelines(
        self, status_filter: str | None = None, limit: int = 100
    ) -> list[PipelineStatus]:
        """Runs, newest first; what is read of the engine's own record has no steps here."""
        query = HistoryQuery.of(status=status_filter)
        word = None if query.status is None else query.status.value
        return await self._asked.list_pipelines(word, limit=checked_limit(limit)) or []

    async def get_history(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        *,
        status: str | None = None,
        pipeline_type: str | None = None,
        tag: str | None = None,
        name: str | None = None,
        cursor: str | None = None,
    ) -> StatusPage:
        """One page of the runs created in a span of time, newest first.

        The page is a list; its ``cursor`` asks for the next one. Runs that come meanwhile do not
        move those to come.

        Raises:
            TrackingQueryError: A time has no zone, there is no such status, the limit is below 1,
                no page has given the cursor.
        """
        query = HistoryQuery.of(
            status=status,
            since=since,
            until=until,
            pipeline_type=pipeline_type,
            tag=tag,
            name=name,
        )
        return await self._asked.get_history(query, limit=checked_limit(limit), cursor=cursor)

    async def get_metrics(self, days: float = 7) -> TrackingMetrics:
        """What the runs created in the last days came to."""
        query = HistoryQuery(since=datetime.now(UTC) - timedelta(days=checked_days(days)))
        found = [status async for status in self._all(query)]
        steps: list[str] = []
        for status in [one for one in found if one.status == RunStatus.FAILED][:NAMED_FAILURES]:
            name = status.failed_step or await self._failed_step(status.run_id)
            if name is not None:
                steps.append(name)
        return metrics.summarize(found, steps)

    # -- keeping it small

    async def delete_pipeline(self, pipeline_id: str) -> bool:
        """Remove the record of a run; False when there is none, or the run is still going."""
        return await self._asked.delete_pipeline(pipeline_id) is not False

    async def cleanup_older_than(self, days: float = 30) -> int:
        """Remove runs that ended more than so many days ago; returns how many. Others go on."""
        return await self._asked.cleanup_older_than(checked_days(days)) or 0

    async def keep_newest(self, count: int) -> int:
        """Remove all ended runs but the newest; returns how many. Those that go on stay."""
        count = checked_limit(count, name="count", least=0)
        storage, kept, removed = self._asked, 0, 0
        old: list[str] = []
        async for status in self._all(HistoryQuery()):
            if status.is_finished():
                kept += 1
                if kept > count:
                    old.append(status.run_id or status.pipeline_id)
        for run_id in old:
            removed += await storage.delete_pipeline(run_id) is not False
        return removed

    # -- hearing

    def add_listener(self, listener: object) -> None:
        """Call the hooks of an object for what happens from now on, here or elsewhere.

        Hooks, all optional, sync or async: ``on_pipeline_start(pipeline_id)``,
        ``on_step_start(pipeline_id, step_name)``,
        ``on_step_complete(pipeline_id, step_name, result)``,
        ``on_step_error(pipeline_id, step_name, error)``,
        ``on_pipeline_error(pipeline_id, error)``, ``on_pipeline_complete(pipeline_id, status)``
        however it ended, and ``on_event(event)`` for all there is. In a process that neither
        starts runs nor starts the broker, call `start` too.

        Raises:
            TrackingStorageError: It has none of the hooks.
        """
        added = Listener(listener)
        self._listeners.append(added)
        for attachment in self._attachments:
            attachment.add(added)
        self._begin_soon()

    def remove_listener(self, listener: object) -> None:
        """Call its hooks no more."""
        self._listeners = [one for one in self._listeners if one.target is not listener]
        for attachment in self._attachments:
            attachment.remove(listener)

    async def start(self) -> None:
        """Listen from here on; from when this returns, nothing is missed.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        for attachment in self._attachments:
            await attachment.source.open()
            await attachment.begin()

    async def stop(self) -> None:
        """Finish what is on its way, as far as that goes quickly, and stop listening.

        Until the next `start`, or the next run that is started here.
        """
        for attachment in self._attachments:
            await attachment.end()

    # -- inside

    @property
    def _asked(self) -> TrackingStorage:
        if self._storage is None:
            raise NoTrackingStorageError
        return self._storage

    def _attach(self, broker: AsyncBroker) -> Attachment:
        for attachment in self._attachments:
            if attachment.broker is broker:
                return attachment
        attachment = Attachment(broker, source_of(broker))
        for listener in self._listeners:
            attachment.add(listener)
        self._attachments.append(attachment)
        attachment.source.follow(attachment)
        if self.auto_cleanup and self.max_history != MAX_HISTORY:
            attachment.source.retain(self.max_history)
        return attachment

    def _begin_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # begun by the first use of the broker
        for attachment in self._attachments:
            task = loop.create_task(_begin(attachment))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _all(self, query: HistoryQuery) -> AsyncGenerator[PipelineStatus, None]:
        cursor: str | None = None
        while True:
            page = await self._asked.get_history(query, limit=PAGE, cursor=cursor)
            for status in page:
                yield status
            cursor = page.cursor
            if cursor is None:
                return

    async def _failed_step(self, run_id: str) -> str | None:
        for attachment in self._sources():
            name = await attachment.source.failed_step(run_id)
            if name is not None:
                return name
        return None

    def _sources(self) -> Iterator[Attachment]:
        # A storage of its own has the step in its records.
        yield from self._attachments if isinstance(self._storage, RunView) else ()


async def _begin(attachment: Attachment) -> None:
    try:
        await attachment.source.open()
    except StoreError as error:
        logger.warning("Tracking begins later, the store does not answer: %s", error)
    else:
        await attachment.begin()
