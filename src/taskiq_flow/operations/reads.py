"""What an operator can look at, from any process that knows where the runs are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from taskiq_flow.engine.children import child_tag
from taskiq_flow.engine.forks import retry_id
from taskiq_flow.engine.results import RunResults, step_name
from taskiq_flow.engine.standing import look_into, why_stuck
from taskiq_flow.engine.step_log import LogLine
from taskiq_flow.exceptions import OperationError, UnknownStepError
from taskiq_flow.model.records import EventRecord, RunSnapshot
from taskiq_flow.operations.graph import run_graph
from taskiq_flow.operations.items import heat, item_page
from taskiq_flow.operations.letters import letter_page
from taskiq_flow.operations.lookup import checked_limit
from taskiq_flow.operations.models import (
    AuditPage,
    Change,
    EventPage,
    EventView,
    FeedPage,
    Heat,
    ItemPage,
    LetterPage,
    LetterQuery,
    LogLineView,
    LogPage,
    Overview,
    Preview,
    QueueView,
    RunDetail,
    RunGraph,
    RunPage,
    RunQuery,
    RunSummary,
    ScheduleView,
    StandingView,
    StepDetail,
    TaskView,
    Timeline,
    WorkerView,
)
from taskiq_flow.operations.overview import make_overview, step_figures
from taskiq_flow.operations.runs import (
    awaited_events,
    links_of,
    possible_actions,
    run_summary,
    standing_view,
    step_details,
)
from taskiq_flow.operations.schedules import schedule_view
from taskiq_flow.operations.scope import Scope
from taskiq_flow.operations.serving import queue_views, task_views, worker_views
from taskiq_flow.operations.timeline import EVENTS_MOST, run_timeline
from taskiq_flow.operations.values import ValueReader
from taskiq_flow.plan import Plan
from taskiq_flow.stores.paging import MOST

ALL_RUNS, ALL_LETTERS = RunQuery(), LetterQuery()
PAGE_MOST = 1_000
COUNTED_MOST = 1_000
CHILDREN_SHOWN = 20
OVERVIEW_SECONDS = 1.0
"""An overview serves all who ask for it within this time."""

LOG_READ = 1_000


class Reads:
    """The reading half of `Operations`. A ``ref`` is a run's id, its last characters, or a name.

    All of them raise `StoreUnavailableError` while the store is away, and `RunNotFoundError` where
    there is no such run.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._overviews: dict[tuple[float, int], tuple[float, Overview]] = {}
        self._summing = asyncio.Lock()

    # -- runs

    async def resolve(self, ref: str) -> str:
        """The id of a run, by its id, its last characters, or the name given to it.

        Raises:
            AmbiguousRunError: The end of an id fits several runs.
        """
        return (await self.scope.lookup.run(ref)).run_id

    async def runs(
        self,
        query: RunQuery = ALL_RUNS,
        *,
        limit: int = 50,
        cursor: str | None = None,
        count: bool = False,
    ) -> RunPage:
        """One page of runs, newest first; with ``count`` also how many there are at all.

        Raises:
            TrackingQueryError: No page has given this cursor.
            OperationError: The limit is not between 1 and 1,000.
        """
        which = query.as_filter()
        limit = checked_limit(limit, PAGE_MOST)
        page = await self.scope.store.list_runs(which, cursor=cursor, limit=limit)
        total = await self.count(query) if count else None
        found = tuple(run_summary(run, self.scope.previewer) for run in page.runs)
        return RunPage(found, page.cursor, total)

    async def count(self, query: RunQuery = ALL_RUNS, *, at_most: int = COUNTED_MOST) -> int:
        """How many runs a query finds; of what two fields or more find, so many at the most."""
        most = at_most if query.is_narrow else None
        return await self.scope.store.count_runs(query.as_filter(), at_most=most)

    async def summary(self, ref: str) -> RunSummary:
        """A run as a row of a list; much cheaper than `run`."""
        return run_summary(await self.scope.lookup.run(ref), self.scope.previewer)

    async def run(self, ref: str) -> RunDetail:
        """A run with its steps, values and error."""
        scope = self.scope
        run, plan = await self._whole(ref)
        standing = await look_into(scope.store, run, plan)
        steps = step_details(run, plan, scope.previewer, standing=standing)
        values = await ValueReader(scope.store, run, plan, scope.previewer).all()
        retry_of, fork_of = links_of(run)
        again = await scope.store.get(retry_id(run), steps=False) if run.status.is_final else None
        failed = run.failed_step
        return RunDetail(
            summary=run_summary(run, scope.previewer),
            deadline=None if run.deadline is None else datetime.fromtimestamp(run.deadline, UTC),
            steps=steps,
            inputs=values.inputs,
            outputs=values.outputs,
            outputs_left_out=values.left_out,
            result=values.result,
            error=scope.previewer.error(
                run.error, None if failed is None else plan.steps[failed], "error"
            ),
            failed_step=step_name(plan, failed),
            note=why_stuck(standing),
            standing=tuple(standing_view(each, plan) for each in standing),
            retry_of=retry_of,
            fork_of=fork_of,
            retried_as=None if again is None else again.run_id,
            children=await self.children(run.run_id, limit=CHILDREN_SHOWN),
            can=possible_actions(run, steps),
            waits_for=awaited_events(steps),
        )

    async def standing(self, ref: str) -> tuple[StandingView, ...]:
        """Why steps of a run have not ended, trouble first; nothing of one that has."""
        run, plan = await self._whole(ref)
        found = await look_into(self.scope.store, run, plan)
        return tuple(standing_view(each, plan) for each in found)

    async def children(self, ref: str, *, limit: int = 50, cursor: str | None = None) -> RunPage:
        """The runs that steps of this one have started."""
        run_id = await self.resolve(ref)
        return await self.runs(RunQuery(tag=child_tag(run_id)), limit=limit, cursor=cursor)

    async def graph(self, ref: str) -> RunGraph:
        """The plan of a run with the state of its steps; draw it with ``render_svg(graph)``."""
        run, plan = await self._whole(ref)
        return run_graph(run, plan, step_details(run, plan, self.scope.previewer))

    async def graphs(self, run_ids: Sequence[str]) -> dict[str, RunGraph]:
        """The graphs of several runs, read at once and by id; without runs that are gone."""
        found = await RunResults(self.scope.store).with_plans(run_ids)
        previewer = self.scope.previewer
        return {
            run.run_id: run_graph(run, plan, step_details(run, plan, previewer))
            for run, plan in found
        }

    async def timeline(self, ref: str) -> Timeline:
        """What happened when: attempts, pauses, lost leases."""
        run, plan = await self._whole(ref)
        events: list[EventRecord] = []
        while len(events) < EVENTS_MOST:
            after = events[-1].seq if events else 0
            page = await self.scope.store.events(run.run_id, after=after, limit=LOG_READ)
            events += page
            if len(page) < LOG_READ:
                break
        steps = step_details(run, plan, self.scope.previewer)
        is_cut = len(events) >= EVENTS_MOST
        return run_timeline(run, steps, events, now=time.time(), is_cut=is_cut)

    async def items(self, ref: str, step: str, start: int = 0, stop: int = 50) -> ItemPage:
        """The items of a map, at most 500 at once.

        Raises:
            UnknownStepError: The run has no step of this name.
            OperationError: The step is no map.
        """
        run, plan, detail = await self._step(ref, step)
        return await item_page(
            self.scope.store, run, plan, detail, (start, stop), self.scope.previewer
        )

    async def heat(self, ref: str, step: str, *, cells: int = 228) -> Heat:
        """All items of a map in so many cells.

        Raises:
            UnknownStepError: The run has no step of this name.
            OperationError: The step is no map.
        """
        run, plan, detail = await self._step(ref, step)
        return await heat(self.scope.store, run, plan, detail, cells=cells)

    async def output(self, ref: str, name: str) -> Preview:
        """More of one value: an output by name, ``result``, or ``input:<name>``.

        Raises:
            OperationError: There is none of this name, or not yet.
        """
        run, plan = await self._whole(ref)
        return await ValueReader(self.scope.store, run, plan, self.scope.previewer.large).one(name)

    # -- what happened

    async def logs(
        self, ref: str, *, after: int = 0, limit: int = 500, step: str | None = None
    ) -> LogPage:
        """Lines that steps wrote, from a position on; with ``step`` only its own."""
        run_id = await self.resolve(ref)
        most = checked_limit(limit, PAGE_MOST)
        found: list[LogLineView] = []
        position = min(max(0, after), MOST)
        while True:
            wanted = most - len(found) if step is None else LOG_READ
            stored, reached = await self.scope.store.log(run_id, after=position, limit=wanted)
            lines = [self._line(line) for line in stored]
            if step is not None:
                # A page by step may be longer than asked for; its position stays exact.
                lines = [line for line in lines if line.step == step]
            found += lines
            is_end = len(stored) < wanted
            position = reached
            if is_end or len(found) >= most:
                return LogPage(tuple(found), position, is_end)

    async def events(self, ref: str, *, after: int = 0, limit: int = 500) -> EventPage:
        """What happened to a run, in order, from a number on."""
        run_id = await self.resolve(ref)
        most = checked_limit(limit, PAGE_MOST)
        position = min(max(0, after), MOST)
        records = await self.scope.store.events(run_id, after=position, limit=most)
        events = tuple([await self.scope.lookup.event(record) for record in records])
        position = events[-1].seq if events else position
        return EventPage(events, position, is_end=len(records) < most)

    async def feed(
        self, *, after: str | None = None, limit: int = 500, wait_seconds: float = 0.0
    ) -> FeedPage:
        """What happened to all runs since a position; without one, where the feed stands now."""
        if after is not None:
            self.scope.hub.check(after)
        records, position = await self.scope.store.feed(
            after=after, limit=checked_limit(limit, PAGE_MOST), wait_seconds=wait_seconds
        )
        events = tuple([await self.scope.lookup.event(record) for record in records])
        return FeedPage(events, position)

    def check_position(self, position: str) -> None:
        """Refuse a position that the feed of this store cannot have.

        Raises:
            OperationError: It is one.
        """
        self.scope.hub.check(position)

    async def watch(
        self,
        ref: str | None = None,
        *,
        after: str | None = None,
        debounce_seconds: float = 0.25,
        heartbeat_seconds: float = 15.0,
    ) -> AsyncGenerator[Change]:
        """Say that something changed: of one run until it has ended, or of any.

        All who watch in this process share one reader. A change without regions only says that
        nothing happened for ``heartbeat_seconds``. Close it (``aclosing``) when nobody looks.
        """
        pace = {"debounce_seconds": debounce_seconds, "heartbeat_seconds": heartbeat_seconds}
        if ref is None:
            changes = self.scope.watching.runs(after, **pace)
        else:
            changes = self.scope.watching.run(await self.resolve(ref), after, **pace)
        async with aclosing(changes):
            async for change in changes:
                yield change

    async def follow(
        self, ref: str | None = None, *, after: str | None = None
    ) -> AsyncGenerator[tuple[EventView, str]]:
        """The events of one run until it has ended, or of all, each with its position.

        None is missing. ``after`` is the position of the last one known; for one run it is the
        event's number.

        Raises:
            OperationError: The feed has no such position.
        """
        if ref is None:
            events = self.scope.watching.events_of_all(after)
        else:
            run_id = await self.resolve(ref)
            after = after or "0"
            if not (after.isascii() and after.isdigit() and len(after) < 10):
                raise OperationError(f"after={after[:40]!r} must be the number of an event.")
            events = self.scope.watching.events_of(run_id, int(after))
        async with aclosing(events):
            async for event in events:
                yield event

    # -- the whole

    async def overview(self, *, hours: float = 24.0, buckets: int = 24) -> Overview:
        """What goes on, what is wrong, and how the last hours were."""
        hours = min(max(hours, 1 / 60), 24.0 * 366)
        asked = (hours, buckets)
        async with self._summing:
            known = self._overviews.get(asked)
            if known is None or time.monotonic() - known[0] > OVERVIEW_SECONDS:
                made = await make_overview(
                    self.scope.store, self.scope.previewer, hours=hours, buckets=buckets
                )
                if len(self._overviews) > 20:  # spans are asked for by URL
                    self._overviews.clear()
                known = self._overviews[asked] = (time.monotonic(), made)
        return known[1]

    async def workers(self) -> tuple[WorkerView, ...]:
        """The worker processes that are alive."""
        return await worker_views(self.scope.store)

    async def tasks(self) -> tuple[TaskView, ...]:
        """The tasks of live workers, and those that ran lately."""
        return task_views(await self.workers(), await step_figures(self.scope.store))

    async def queues(self) -> tuple[QueueView, ...]:
        """The queues: who serves them, what runs and waits there, and what is wrong."""
        return await queue_views(self.scope.store, self.scope.previewer)

    async def schedules(self) -> tuple[ScheduleView, ...]:
        """What starts by itself, and when; by id."""
        return tuple(schedule_view(job) for job in await self.scope.jobs.list_jobs())

    async def dead_letters(
        self, query: LetterQuery = ALL_LETTERS, *, limit: int = 50, cursor: str | None = None
    ) -> LetterPage:
        """Runs that failed for good, newest first."""
        limit = checked_limit(limit, PAGE_MOST)
        return await letter_page(self.scope, query, limit=limit, cursor=cursor)

    async def audit(self, *, limit: int = 100, cursor: str | None = None) -> AuditPage:
        """Who did what, newest first."""
        return await self.scope.audit.page(limit=checked_limit(limit, 500), cursor=cursor)

    async def health(self) -> Mapping[str, Any]:
        """Facts of the store: kind, version, durability, latency in milliseconds."""
        return await self.scope.store.health()

    # -- parts

    async def _whole(self, ref: str) -> tuple[RunSnapshot, Plan]:
        run = await self.scope.lookup.run(ref, steps=True)
        return run, await RunResults(self.scope.store).plan(run.run_id)

    async def _step(self, ref: str, name: str) -> tuple[RunSnapshot, Plan, StepDetail]:
        run, plan = await self._whole(ref)
        steps = step_details(run, plan, self.scope.previewer)
        detail = next((step for step in steps if step.name == name), None)
        if detail is None:
            raise UnknownStepError(name[:200], [step.name for step in steps[:100]])
        return run, plan, detail

    def _line(self, stored: bytes) -> LogLineView:
        line = LogLine.read(stored)
        text = self.scope.previewer.text(f"logs.{line.step}", line.message)
        return LogLineView(line.at, line.level, text, line.step, line.attempt, line.item)
