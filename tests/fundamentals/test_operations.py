"""What an operator sees and does, from any process that knows the store."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineContext
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.runtime import runtimes
from taskiq_flow.engine.standing import Cause
from taskiq_flow.exceptions import (
    AmbiguousRunError,
    NothingToRunError,
    OperationError,
    RunNotEndedError,
    RunNotFoundError,
    TrackingQueryError,
    UnknownStepError,
)
from taskiq_flow.model.records import NewRun, RunStatus, StepStatus
from taskiq_flow.operations import (
    MASK,
    BarKind,
    Change,
    EdgeState,
    ItemState,
    LetterQuery,
    Operations,
    RunQuery,
    letters,
)
from taskiq_flow.operations.watching import ALL_REGIONS
from taskiq_flow.plan import load_plan
from taskiq_flow.task import PipelineTask
from taskiq_flow.visualization import render_svg

ACTOR = "ada"


@dataclass
class Flow:
    """Pipelines on one store, and an operator who only knows where that is."""

    broker: InMemoryBroker
    operations: Operations
    failures_left: int = 1

    def __post_init__(self) -> None:
        @self.broker.task(task_name="ops:load")
        async def load(count: int) -> list[int]:
            return list(range(count))

        @self.broker.task(task_name="ops:double")
        async def double(x: int) -> int:
            if x == 3:
                raise ValueError("no three, please")
            return 2 * x

        @self.broker.task(task_name="ops:total")
        async def total(values: list[int], context: PipelineContext) -> int:
            context.logger.warning("adding %d values", len(values))
            if self.failures_left:
                self.failures_left -= 1
                raise RuntimeError("out of paper")
            return sum(value or 0 for value in values)

        self.pipeline = Pipeline(self.broker, load).map(double, skip_errors=True).call_next(total)
        self.waiting = Pipeline(self.broker).wait_for("go").call_next(load)

    async def run(self, count: int = 6, **options: Any) -> PipelineTask[Any]:
        """Run the pipeline to its end, which is a failure as long as failures are left."""
        task = await self.pipeline.kiq(count)
        await task.wait_result(timeout=20, raise_on_error=False)
        return task


@pytest.fixture
async def flow(stored_broker: InMemoryBroker) -> AsyncIterator[Flow]:
    store = RunClient.of(stored_broker).store
    if store.url.startswith("memory"):
        opened = await Operations.open(broker=stored_broker)
    else:
        opened = await Operations.open(store.url, namespace=store.options.namespace)
    async with opened as operations:
        yield Flow(stored_broker, operations)
        for page in [await operations.runs(limit=1000)]:
            for run in page.runs:
                await runtimes[stored_broker].store.cancel(run.run_id, "the test is over")
                await runtimes[stored_broker].store.delete(run.run_id)


async def test_all_of_a_run_is_shown(flow: Flow) -> None:
    task = await flow.run()

    run = await flow.operations.run(task.task_id)
    graph = await flow.operations.graph(task.task_id)
    timeline = await flow.operations.timeline(task.task_id)
    logs = await flow.operations.logs(task.task_id)
    events = await flow.operations.events(task.task_id)

    assert run.summary.status is RunStatus.FAILED
    assert run.summary.error == "RuntimeError: out of paper"
    assert [step.status for step in run.steps] == [
        StepStatus.COMPLETED, StepStatus.COMPLETED, StepStatus.FAILED,
    ]  # fmt: skip
    assert run.error is not None
    assert run.error.step == "total"
    assert "out of paper" in run.error.traceback
    assert run.inputs["count"].value == 6
    assert run.outputs["load"].value == [0, 1, 2, 3, 4, 5]
    assert run.outputs["double"].value == [0, 2, 4, 8, 10]
    assert {"resume", "fork", "retry", "delete"} == run.can
    assert [edge.state for edge in graph.edges] == [EdgeState.TAKEN, EdgeState.TAKEN]
    assert render_svg(graph).count("<g") >= 3
    assert [row.step.name for row in timeline.rows] == ["load", "double", "total"]
    assert [line.message for line in logs.lines] == ["adding 5 values"]
    assert [event.seq for event in events.events] == list(range(1, len(events.events) + 1))
    assert events.events[-1].type == "run_failed"


async def test_items_of_a_map_are_shown_by_page(flow: Flow) -> None:
    task = await flow.run()

    page = await flow.operations.items(task.task_id, "double", 2, 5)
    heat = await flow.operations.heat(task.task_id, "double", cells=3)

    assert [item.number for item in page.items] == [2, 3, 4]
    assert [item.state for item in page.items] == [
        ItemState.DONE, ItemState.FAILED, ItemState.DONE,
    ]  # fmt: skip
    assert [item.given.value for item in page.items if item.given] == [2, 3, 4]
    assert [(cell.done, cell.failed) for cell in heat.cells] == [(2, 0), (1, 1), (2, 0)]
    with pytest.raises(OperationError, match="only a map"):
        await flow.operations.items(task.task_id, "load")
    with pytest.raises(UnknownStepError):
        await flow.operations.items(task.task_id, "nothing")


async def test_the_overview_counts_what_ended_and_names_what_fails(flow: Flow) -> None:
    for _ in range(3):
        await flow.run()

    overview = await flow.operations.overview(hours=1, buckets=4)

    assert overview.counts[RunStatus.FAILED] == 1
    assert overview.counts[RunStatus.COMPLETED] == 2
    assert sum(bucket.completed for bucket in overview.buckets) == 2
    assert sum(bucket.failed for bucket in overview.buckets) == 1
    assert overview.failed.total == 1
    assert {figure.step for figure in overview.slowest} == {"load", "double", "total"}
    assert [figure.step for figure in overview.most_failing] == ["total"]
    tasks = {task.name: task for task in await flow.operations.tasks()}
    assert tasks["ops:total"].failed == 1


async def test_a_run_is_found_by_its_id_the_end_of_it_and_its_name(flow: Flow) -> None:
    flow.failures_left = 0
    named = await flow.pipeline.with_id("nightly").kiq(1)
    await named.wait_result(timeout=20)

    for ref in (named.run_id, named.run_id[-8:], named.run_id[-8:].upper(), "nightly"):
        assert await flow.operations.resolve(ref) == named.run_id
    for ref in ("", "\x00", "x" * 10_000, "ffffffff", "../nightly", "night*", "\ud800"):
        with pytest.raises(RunNotFoundError):
            await flow.operations.resolve(ref)


async def test_a_retry_without_a_broker_is_made_and_says_who_goes_on(flow: Flow) -> None:
    task = await flow.run()

    made = await flow.operations.retry(task.task_id, actor=ACTOR)
    again = await flow.operations.resume(task.task_id, actor=ACTOR)

    assert made.run_id == again.run_id
    assert made.run_id is not None
    assert (
        made.note is None
        if flow.operations.can_send
        else "within some seconds" in (made.note or "")
    )
    retry = await flow.operations.run(made.run_id)
    assert retry.retry_of == task.task_id
    assert [step.is_taken_over for step in retry.steps] == [True, True, False]
    assert (await flow.operations.run(task.task_id)).retried_as == made.run_id


async def test_an_event_and_a_cancel_reach_a_run_that_waits(flow: Flow) -> None:
    sent, cancelled = await flow.waiting.kiq(), await flow.waiting.kiq()
    before = await flow.operations.run(sent.task_id)
    with pytest.raises(RunNotEndedError):
        await flow.operations.retry(sent.task_id, actor=ACTOR)

    await flow.operations.send_event(sent.task_id, "go", 2, actor=ACTOR)
    first = await flow.operations.cancel(cancelled.task_id, actor=ACTOR, reason="enough")
    second = await flow.operations.cancel(cancelled.task_id, actor=ACTOR)

    assert before.waits_for == ("go",)
    assert before.steps[0].note == "waits for the event 'go'"
    assert before.can == {"cancel", "send_event"}
    assert (first.changed, second.changed) == (True, False)
    ended = await flow.operations.run(cancelled.task_id)
    assert ended.summary.reason == "enough"
    assert {step.status for step in ended.steps} == {StepStatus.CANCELLED}
    types = [event.type for event in (await flow.operations.events(sent.task_id)).events]
    assert "event_received" in types


async def test_who_did_what_is_kept_newest_first_and_by_page(flow: Flow) -> None:
    task = await flow.run()
    await flow.operations.fork(task.task_id, actor=ACTOR, inputs={"count": 2})
    with pytest.raises(RunNotFoundError):
        await flow.operations.cancel("nothing", actor="bob\nroot did something")
    await flow.operations.delete(task.task_id, actor=ACTOR)

    first = await flow.operations.audit(limit=2)
    rest = await flow.operations.audit(limit=2, cursor=first.cursor)

    assert [(entry.action, entry.ok) for entry in first.entries] == [
        ("delete", True),
        ("cancel", False),
    ]
    assert first.entries[1].actor == "bob\nroot did something"
    assert [entry.action for entry in rest.entries] == ["fork"]
    assert rest.entries[0].details["inputs"] == ["count"]
    assert rest.cursor is None


async def test_a_watcher_hears_that_something_changed_and_goes_on_where_it_was(
    flow: Flow,
) -> None:
    changes: asyncio.Queue[Change] = asyncio.Queue()

    async def watch(after: str | None = None) -> None:
        watching = flow.operations.watch(after=after, debounce_seconds=0.01, heartbeat_seconds=0.2)
        async with aclosing(watching) as found:
            async for change in found:
                await changes.put(change)

    watcher = asyncio.create_task(watch())
    first = await asyncio.wait_for(changes.get(), 10)  # a sign of life: it watches now
    task = await flow.run(1)
    heard: set[str] = set()
    while task.task_id not in heard:
        heard |= (await asyncio.wait_for(changes.get(), 10)).run_ids
    watcher.cancel()
    await asyncio.wait([watcher])
    resumed = asyncio.create_task(watch(first.position))
    while task.task_id not in (await asyncio.wait_for(changes.get(), 10)).run_ids:
        pass
    resumed.cancel()
    await asyncio.wait([resumed])

    assert first.regions == frozenset()
    assert flow.operations.scope.hub.watching == 0


async def test_what_happened_before_somebody_watches_is_told_behind_the_position_they_have(
    flow: Flow,
) -> None:
    """A page knows how things stood when it was made, and begins to listen a moment later."""
    read = (await flow.operations.feed(limit=1)).position
    task, other = await flow.run(1), await flow.run(1)
    after = (await flow.operations.feed(limit=1)).position
    await flow.run(1)

    async def told(run_id: str | None, position: str) -> list[Change]:
        found: list[Change] = []
        watching = flow.operations.watch(run_id, after=position, heartbeat_seconds=0.2)
        async with aclosing(watching) as changes, asyncio.timeout(20):
            async for change in changes:
                found.append(change)
                if not change.regions:
                    break
        return found

    (change,) = await told(task.task_id, read)
    assert (change.run_ids, change.regions) == ({task.task_id}, ALL_REGIONS)
    assert await told(task.task_id, after) == []
    every, quiet = await told(None, read)
    assert {task.task_id, other.task_id} < every.run_ids
    assert quiet.regions == frozenset()


async def test_who_was_away_for_long_is_told_once_and_not_piece_by_piece(
    local: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskiq_flow.operations.watching.EVENT_PAGE", 5)
    read = (await local.operations.feed(limit=1)).position
    await local.run(1)

    async with aclosing(local.operations.watch(after=read)) as changes:
        change = await asyncio.wait_for(anext(changes), 20)

    assert (change.is_many, change.regions) == (True, {"runs"})
    assert change.position == (await local.operations.feed(limit=1)).position


async def test_events_are_followed_to_the_end_of_a_run_without_gaps(flow: Flow) -> None:
    task = await flow.waiting.kiq()
    seen: list[int] = []

    async def follow() -> None:
        async with aclosing(flow.operations.follow(task.task_id)) as events:
            async for event, position in events:
                assert position == str(event.seq)
                seen.append(event.seq)

    following = asyncio.create_task(follow())
    await flow.operations.send_event(task.task_id, "go", 2, actor=ACTOR)
    await flow.operations.cancel(task.task_id, actor=ACTOR)

    await asyncio.wait_for(following, 20)
    assert seen == list(range(1, len(seen) + 1))


async def test_dead_letters_are_replayed_and_old_runs_purged(flow: Flow) -> None:
    await flow.run()
    letters = await flow.operations.dead_letters(LetterQuery(task="ops:total"))

    replayed = await flow.operations.replay_dead_letters(LetterQuery(), actor=ACTOR)
    nothing = await flow.operations.replay_dead_letters(["nothing"], actor=ACTOR)

    assert [letter.error.message for letter in letters.letters] == ["out of paper"]
    assert list(replayed.made) == [letters.letters[0].run_id]
    assert list(nothing.left) == ["nothing"]
    assert (await flow.operations.dead_letters()).letters == ()
    soon = datetime.now(UTC) + timedelta(minutes=1)
    assert await flow.operations.purge(before=soon, actor=ACTOR) >= 1
    assert await flow.operations.count(RunQuery(status=RunStatus.FAILED)) == 0


# -- what no store matters for


@pytest.fixture
async def broker() -> AsyncIterator[InMemoryBroker]:
    """One kind of broker is enough for what is read from a store."""
    broker = InMemoryBroker()
    RunClient.of(broker)
    yield broker
    await broker.shutdown()


@pytest.fixture
async def local(broker: InMemoryBroker) -> AsyncIterator[Flow]:
    async with await Operations.open(broker=broker) as operations:
        yield Flow(broker, operations)


async def test_everything_is_run_anew_only_when_that_is_asked_for(local: Flow) -> None:
    local.failures_left = 0
    task = await local.run(3)

    with pytest.raises(NothingToRunError):
        await local.operations.retry(task.task_id, actor=ACTOR)
    made = await local.operations.retry(task.task_id, actor=ACTOR, from_start=True)

    assert made.run_id is not None
    async with aclosing(local.operations.follow(made.run_id)) as events:
        started = [event.step async for event, _ in events if event.type == "step_started"]
    assert started == ["load", "double", "total"]


async def test_a_page_of_dead_letters_looks_into_some_of_them_and_says_where_to_go_on(
    local: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No index says which task failed: a page that found none among thousands would take long."""
    monkeypatch.setattr(letters, "LOOKED_MOST", 2)
    local.failures_left = 3
    runs = [await local.run() for _ in range(3)]

    page = await local.operations.dead_letters(LetterQuery(task="ops:none"), limit=1)
    rest = await local.operations.dead_letters(limit=1, cursor=page.cursor)

    assert page.letters == ()
    assert [letter.run_id for letter in rest.letters] == [runs[0].task_id]


async def test_what_two_fields_narrow_is_counted_up_to_a_number(local: Flow) -> None:
    local.failures_left = 3
    runs = [await local.run() for _ in range(3)]
    kind = (await local.operations.summary(runs[0].task_id)).kind
    failed = RunQuery(status=RunStatus.FAILED)

    assert await local.operations.count(replace(failed, kind=kind), at_most=2) == 2
    assert await local.operations.count(failed, at_most=2) == 3, "an index knows how many these are"


async def test_attempts_and_pauses_are_bars_of_the_timeline(broker: InMemoryBroker) -> None:
    failures = iter([True, False])

    @broker.task
    async def flaky() -> int:
        if next(failures):
            raise OSError("not yet")
        return 1

    pipeline = Pipeline(broker, flaky).with_retry(max_attempts=3, delay=0.01, backoff=1)
    task = await pipeline.kiq()
    await task.wait_result(timeout=20)
    async with await Operations.open(broker=broker) as operations:
        (row,) = (await operations.timeline(task.task_id)).rows

    assert [(bar.kind, bar.attempt, bar.status) for bar in row.bars] == [
        (BarKind.ATTEMPT, 1, StepStatus.FAILED),
        (BarKind.WAITING, 2, StepStatus.RETRYING),
        (BarKind.ATTEMPT, 2, StepStatus.COMPLETED),
    ]


async def test_secrets_are_masked_by_default_and_as_you_say(broker: InMemoryBroker) -> None:
    @broker.task
    async def login(user: dict[str, str]) -> dict[str, str]:
        return user

    given = {"name": "ada", "password": "hunter2"}
    task = await Pipeline(broker, login).kiq(given)
    await task.wait_result(timeout=20)

    def redact(path: str, value: Any) -> Any:
        return "?" if path == "inputs.user.name" else value

    async with await Operations.open(broker=broker) as operations:
        masked = await operations.run(task.task_id)
    async with await Operations.open(broker=broker, redact=redact) as operations:
        own = await operations.run(task.task_id)

    assert masked.inputs["user"].value == {"name": "ada", "password": MASK}
    assert masked.result is not None
    assert masked.result.value == {"name": "ada", "password": MASK}
    assert own.inputs["user"].value == {"name": "?", "password": "hunter2"}


async def test_a_preview_is_bounded_and_says_that_there_is_more(broker: InMemoryBroker) -> None:
    @broker.task
    async def echo(value: Any) -> Any:
        return value

    deep: Any = "bottom"
    for _ in range(50):
        deep = [deep]
    values: list[Any] = [
        list(range(10_000)),
        "x" * 100_000,
        deep,
        float("nan"),
        "\ud800",
        {1: b"2"},
    ]
    tasks = [await Pipeline(broker, echo).kiq(value) for value in values]
    for task in tasks:
        await task.wait_result(timeout=20)

    async with await Operations.open(broker=broker) as operations:
        shown = [(await operations.run(task.task_id)).result for task in tasks]
        more = await operations.output(tasks[0].task_id, "result")
        with pytest.raises(OperationError, match="has no output"):
            await operations.output(tasks[0].task_id, "nothing")

    previews = [preview for preview in shown if preview is not None]
    assert len(previews) == len(values)
    assert [preview.is_cut for preview in previews] == [True, True, True, False, False, False]
    assert previews[0].length == 10_000
    assert len(previews[0].value) < 300 < len(more.value)
    assert previews[3].value == "nan"
    assert previews[5].type == "dict"
    assert "\ud800" not in str(previews[4].value)


async def test_the_end_of_an_id_that_fits_two_runs_is_refused(local: Flow) -> None:
    client = RunClient.of(local.broker)
    plan = await client.results.plan((await local.run(1)).task_id)
    ids = [f"01a1fe2e-8b89-7000-a6f5-{number}44977e19aaa"[:36] for number in (1, 2)]
    for run_id in ids:
        await client.start(plan, run_id=run_id, inputs=[b"1"])

    with pytest.raises(AmbiguousRunError) as refused:
        await local.operations.resolve(ids[0][-8:])

    assert set(refused.value.run_ids) == set(ids)


async def test_running_code_says_in_which_process_it_runs_and_a_wait_since_when(flow: Flow) -> None:
    begun, looked = asyncio.Event(), asyncio.Event()

    @flow.broker.task(task_name="ops:held")
    async def held() -> None:
        begun.set()
        await looked.wait()

    task = await Pipeline(flow.broker, held).kiq()
    waiting = await flow.waiting.kiq()
    await asyncio.wait_for(begun.wait(), 20)
    (running,) = (await flow.operations.run(task.task_id)).standing
    (event,) = await flow.operations.standing(waiting.task_id)
    looked.set()
    await task.wait_result(timeout=20)

    assert (running.cause, running.steps) == (Cause.WORKS, ("held",))
    assert running.text.endswith(f"process {os.getpid()}")
    assert (event.cause, event.is_trouble) == (Cause.EVENT, False)
    assert event.since is not None
    assert (await flow.operations.run(task.task_id)).standing == ()


async def test_who_waits_for_a_limit_is_told_which_runs_hold_it(flow: Flow) -> None:
    begun, looked = asyncio.Event(), asyncio.Event()

    @flow.broker.task(task_name="ops:letter")
    async def letter() -> None:
        begun.set()
        await looked.wait()

    mail = Pipeline(flow.broker, letter).with_limit(key="mail", max=1)
    first = await mail.kiq()
    await asyncio.wait_for(begun.wait(), 20)
    second = await mail.kiq()
    async with asyncio.timeout(20):
        while True:
            (found,) = (await flow.operations.run(second.task_id)).standing
            if found.cause is Cause.LIMIT:
                break
            await asyncio.sleep(0.01)
    looked.set()
    await asyncio.gather(first.wait_result(timeout=20), second.wait_result(timeout=20))

    holder = f"held by run {first.task_id[-8:]} in step 'letter'"
    assert found.text == f"waits behind the limit 'mail' (1 at once; {holder})"
    assert found.held_by == (first.task_id,)
    assert found.advice == "cancel a run that holds it, or raise the limit"


async def test_a_queue_that_nobody_serves_is_named_everywhere(local: Flow) -> None:
    client = RunClient.of(local.broker)
    plan = await client.results.plan((await local.run(1)).task_id)
    stored = plan.stored.replace(b'"local"', b'"ListQueueBroker:host:6379/0:mail"')
    plan = load_plan(stored)
    run_id = "01a1fe2e-8b89-7000-a6f5-000000000001"
    await client.store.create(
        NewRun(run_id, "default", plan.records, plan.stored, plan.kind, inputs={-1: b"1"})
    )

    run = await local.operations.run(run_id)
    queues = {queue.name: queue for queue in await local.operations.queues()}
    overview = await local.operations.overview()

    mail = queues["ListQueueBroker:host:6379/0:mail"]
    assert run.note is not None
    assert "no live worker serves queue ListQueueBroker:host:6379/0:mail" in run.note
    assert [each.steps for each in run.standing if each.is_trouble] == [(run.steps[0].name,)]
    assert (mail.ready, mail.workers) == (1, ())
    assert overview.problems == (mail.note,)
    assert "no live worker serves queue ListQueueBroker:host:6379/0:mail" in (mail.note or "")


@pytest.mark.parametrize("cursor", ["", "x", "1e999 a", "1 ", "nan a", "1 a\n"])
async def test_a_cursor_that_no_page_gave_is_refused(local: Flow, cursor: str) -> None:
    with pytest.raises(TrackingQueryError):
        await local.operations.runs(cursor=cursor)


async def test_without_a_place_to_look_at_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TASKIQ_FLOW_STORE_URL", raising=False)

    with pytest.raises(OperationError, match="TASKIQ_FLOW_STORE_URL"):
        await Operations.open()
