"""The dashboard as an app: mounted anywhere, safe for everybody, light for big runs."""

import base64
import csv
import io
import json
import re
import uuid
from collections.abc import AsyncIterator
from html import unescape

import pytest
from httpx import ASGITransport, AsyncClient, Response
from starlette.applications import Starlette
from starlette.routing import Mount
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineMiddleware
from taskiq_flow.dashboard import create_app
from taskiq_flow.dashboard.live import message_of
from taskiq_flow.dashboard.pages import runs
from taskiq_flow.engine.client import RunClient
from taskiq_flow.model.records import NewRun, WorkerRecord
from taskiq_flow.operations import Change, Operations
from taskiq_flow.plan import Const, Plan
from taskiq_flow.scheduling import PipelineScheduler
from taskiq_flow.security import Security
from tests.support.asking import ask

TOKEN = "let-me-in-please"
KEYS = {
    "viewer-key-0001": {"name": "vera", "role": "viewer"},
    "operator-key-01": {"name": "otto", "role": "operator"},
    "admin-key-00001": {"name": "anna", "role": "admin"},
    "narrow-key-0001": {"name": "nora", "role": "operator", "pipelines": ["other_*"]},
}
PAGES = ("/", "/runs", "/tasks", "/queues", "/schedules", "/dead-letters", "/workers", "/more")
ACTIONS = (
    "/runs/bulk",
    "/runs/{run}/cancel",
    "/runs/{run}/retry",
    "/runs/{run}/resume",
    "/runs/{run}/fork",
    "/runs/{run}/event",
    "/dead-letters/replay",
    "/dead-letters/discard",
    "/schedules/nightly",
)


class Shown:
    """A dashboard on a store in memory, under a path, and a client of it."""

    def __init__(self, operations: Operations, broker: InMemoryBroker) -> None:
        self.operations, self.broker = operations, broker
        app = create_app(operations, security=Security(token=TOKEN, api_keys=KEYS))
        self.host = Starlette(routes=[Mount("/ops/flow", app)])

    def client(self, key: str | None = None) -> AsyncClient:
        headers = {} if key is None else {"x-api-key": key}
        transport = ASGITransport(self.host)
        return AsyncClient(transport=transport, base_url="http://here/ops/flow", headers=headers)


@pytest.fixture
async def shown(namespace: str) -> AsyncIterator[Shown]:
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store="memory://", namespace=namespace))
    await broker.startup()
    async with await Operations.open(broker=broker) as operations:
        yield Shown(operations, broker)
    await broker.shutdown()


async def a_run(shown: Shown) -> str:
    @shown.broker.task(task_name="shop:fail")
    async def fail(value: int) -> None:
        raise ValueError(f"cannot use {value}")

    task = await Pipeline(shown.broker, fail).with_name("shop_import").kiq(3)
    await task.wait_result(timeout=10, raise_on_error=False)
    return str(task.task_id)


async def test_all_links_of_a_mounted_dashboard_stay_below_its_path(shown: Shown) -> None:
    run_id = await a_run(shown)
    seen: set[str] = set()

    async with shown.client("admin-key-00001") as client:
        for path in (*PAGES, "/audit", f"/runs/{run_id}"):
            answer = await client.get(path)
            assert answer.status_code == 200, (path, answer.text[:500])
            links = re.findall(r'(?:href|src|action|content|data-src)="(/[^"]*)"', answer.text)
            assert all(link.startswith("/ops/flow/") for link in links), path
            seen.update(link.replace("&amp;", "&") for link in links)
        pages = {
            link for link in seen if not re.search("live|bulk|replay|logout|/(cancel|event)$", link)
        }
        for link in sorted(pages)[:60]:
            answer = await client.get(f"http://here{link}")
            assert answer.status_code in (200, 303, 405), link


async def test_every_answer_has_the_policy_and_no_page_breaks_it(shown: Shown) -> None:
    run_id = await a_run(shown)

    async with shown.client("admin-key-00001") as client:
        for path in (*PAGES, f"/runs/{run_id}", "/runs/unknown", "/nowhere", "/static/flow.js"):
            answer = await client.get(path)
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            if "html" in answer.headers["content-type"]:
                assert not re.search(
                    r"<style|\sstyle=|<script(?! type=\"module\" src=)|\son\w+=", answer.text
                )
                assert "http://" not in answer.text.replace("http://here/ops/flow", "").replace(
                    "http://www.w3.org/2000/svg", ""
                )


async def test_nobody_sees_a_page_and_nobody_acts_without_the_role_for_it(shown: Shown) -> None:
    run_id = await a_run(shown)
    allowed = {None: 401, "viewer-key-0001": 403}

    for key, refusal in allowed.items():
        async with shown.client(key) as client:
            for path in PAGES:
                answer = await client.get(path)
                assert answer.status_code == (401 if key is None else 200), path
            for path in ACTIONS:
                answer = await client.post(path.format(run=run_id))
                assert answer.status_code == refusal, path
    async with shown.client("operator-key-01") as client:
        assert (await client.get("/audit")).status_code == 403
        assert (await client.post("/dead-letters/discard")).status_code == 403
        assert "dlg-discard" not in (await client.get("/dead-letters")).text
    async with shown.client("viewer-key-0001") as client:
        page = (await client.get(f"/runs/{run_id}")).text
        assert 'data-open="dlg-cancel"' not in page
        assert (await client.get("/runs", params={"region": "rows"})).text.count("checkbox") == 0


async def test_no_address_that_changes_something_answers_a_get(shown: Shown) -> None:
    run_id = await a_run(shown)

    async with shown.client("admin-key-00001") as client:
        for path in (*ACTIONS, "/logout"):
            answer = await client.get(path.format(run=run_id))
            assert answer.status_code in (404, 405) or path == "/runs/bulk", path


async def test_a_browser_changes_nothing_without_the_token_of_its_page(shown: Shown) -> None:
    run_id = await a_run(shown)

    async with shown.client() as client:
        await client.get("/", params={"token": TOKEN})
        without = await client.post(f"/runs/{run_id}/resume")
        page = await client.get(f"/runs/{run_id}")
        (token,) = set(re.findall(r'name="csrf_token" value="([^"]+)"', page.text))
        elsewhere = await client.post(
            f"/runs/{run_id}/resume",
            data={"csrf_token": token},
            headers={"origin": "https://evil.example"},
        )
        meant = await client.post(f"/runs/{run_id}/resume", data={"csrf_token": token})

    assert (without.status_code, elsewhere.status_code, meant.status_code) == (403, 403, 303)
    assert meant.headers["location"].startswith("/ops/flow/runs/")


async def test_whoever_may_see_few_pipelines_sees_no_other(shown: Shown) -> None:
    run_id = await a_run(shown)

    async with shown.client("narrow-key-0001") as client:
        for path in ("", "/value?name=result", "/live"):
            assert (await client.get(f"/runs/{run_id}{path}")).status_code == 404
        for path in ("/runs", "/dead-letters", "/", f"/dead-letters?open={run_id}"):
            assert "shop_import" not in (await client.get(path)).text
        answer = await client.post(f"/runs/{run_id}/resume")
        await client.post("/dead-letters/replay", data={"which": "filter"})

    assert said(answer).startswith("No run")
    assert (await shown.operations.run(run_id)).retried_as is None


def said(answer: Response) -> str:
    cookie = answer.headers["set-cookie"].partition("=")[2].partition(";")[0].strip('"')
    return str(json.loads(base64.urlsafe_b64decode(cookie))["text"])


async def test_a_login_leads_back_to_these_pages_and_nowhere_else(shown: Shown) -> None:
    for given, leads_to in (
        ("/ops/flow/runs?tag=a", "/ops/flow/runs?tag=a"),
        ("https://evil.example/", "/ops/flow/"),
        ("//evil.example/ops/flow/", "/ops/flow/"),
        ("/elsewhere", "/ops/flow/"),
    ):
        async with shown.client() as client:
            answer = await client.post("/login", data={"token": TOKEN, "next": given})
        assert answer.headers["location"] == leads_to


async def test_a_graph_of_a_thousand_steps_is_a_light_fragment(shown: Shown) -> None:
    async def source() -> int:
        return 1

    async def work(seed: int) -> int:
        return seed

    shown.broker.register_task(source, task_name="shop:source")
    shown.broker.register_task(work, task_name="shop:work")
    first, many = shown.broker.find_task("shop:source"), shown.broker.find_task("shop:work")
    chain = Pipeline(shown.broker, first)
    chain.group([many] * 998)
    task = await chain.with_name("wide").kiq()

    async with shown.client("viewer-key-0001") as client:
        graph = await client.get(f"/runs/{task.task_id}", params={"region": "graph"})
        page = await client.get(f"/runs/{task.task_id}")

    assert graph.text.count('class="node ') <= 60
    assert "998" in graph.text
    assert len(graph.content) < 150_000
    assert len(page.content) < 250_000


async def test_a_map_of_many_items_is_a_light_fragment_and_opens_page_by_page(shown: Shown) -> None:
    @shown.broker.task(task_name="shop:square")
    async def square(item: int) -> int:
        return item * item

    task = await Pipeline(shown.broker).map(square, max_parallel=4).kiq(list(range(4_000)))
    await task.wait_result(timeout=60)

    async with shown.client("viewer-key-0001") as client:
        graph = await client.get(f"/runs/{task.task_id}", params={"region": "graph"})
        drawer = await client.get(
            f"/runs/{task.task_id}", params={"items": "square", "start": 3_990}
        )

    assert len(graph.content) < 25_000
    assert "3,999" in drawer.text
    assert len(drawer.content) < 150_000


async def test_a_page_holds_a_place_for_what_is_late_and_does_not_wait_for_it(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await a_run(shown)
    monkeypatch.setattr("taskiq_flow.dashboard.views.PATIENCE_SECONDS", 0.0)

    places: list[str] = []
    async with shown.client("admin-key-00001") as client:
        for path in (*PAGES, "/audit", f"/runs/{run_id}"):
            page = await client.get(path)
            assert page.status_code == 200, path
            late = re.findall(r'data-src="/ops/flow([^"]+)"[^>]* data-loading', page.text)
            places += [place.replace("&amp;", "&") for place in late]
        for place in places:
            part = await client.get(place)
            assert part.status_code == 200, place
            assert "data-live" in part.text
            assert "data-loading" not in part.text

    parts = {place.rpartition("region=")[2] for place in places}
    assert {"tiles", "now", "chart", "chips", "letters"} <= parts


async def test_the_runs_of_a_view_are_exported_whole_and_nothing_in_them_is_a_formula(
    shown: Shown,
) -> None:
    @shown.broker.task(task_name="shop:note")
    async def note(value: int) -> int:
        return value

    for number in range(3):
        pipeline = Pipeline(shown.broker, note).with_name("=HYPERLINK(1)").with_tags("a", "b")
        await (await pipeline.kiq(number)).wait_result(timeout=10)
    await a_run(shown)

    async with shown.client("viewer-key-0001") as client:
        link = re.search(
            r'href="/ops/flow(/runs.csv[^"]*)"', (await client.get("/runs?tag=a")).text
        )
        assert link is not None
        tagged = await client.get(link[1])
        every = await client.get("/runs.csv")
    async with shown.client("narrow-key-0001") as client:
        none = await client.get("/runs.csv")

    rows = list(csv.DictReader(io.StringIO(tagged.text)))
    assert tagged.headers["content-disposition"].startswith("attachment")
    assert [(row["name"], row["status"], row["tags"]) for row in rows] == [
        ("'=HYPERLINK(1)", "COMPLETED", "a b")
    ] * 3
    failed, *_ = csv.DictReader(io.StringIO(every.text))
    assert (failed["name"], failed["failures"]) == ("shop_import", "1")
    assert "cannot use 3" in failed["error"]
    assert (len(every.text.splitlines()), len(none.text.splitlines())) == (5, 1)


async def test_a_dead_letter_is_found_by_its_kind_of_error_and_discarded_for_good(
    shown: Shown,
) -> None:
    run_id = await a_run(shown)

    async with shown.client("admin-key-00001") as client:
        page = await client.get("/dead-letters")
        other = await client.get("/dead-letters?error=KeyError")
        link = re.search(r'href="/ops/flow(/dead-letters\?error=ValueError)"', page.text)
        assert link is not None
        found = await client.get(link[1])
        answer = await client.post(
            "/dead-letters/discard",
            data={"ids": f"{run_id},{run_id}", "back": "/ops/flow/dead-letters?error=ValueError"},
        )
        gone = await client.get(f"/runs/{run_id}")

    assert f'data-key="{run_id}"' in found.text
    assert f'data-key="{run_id}"' not in other.text
    assert said(answer) == "1 dead letter was removed, 1 left"
    assert answer.headers["location"] == "/ops/flow/dead-letters?error=ValueError"
    assert gone.status_code == 404
    assert (await shown.operations.audit()).entries[-1].actor == "anna"


async def test_a_run_that_ends_before_its_page_listens_is_told_when_it_does(shown: Shown) -> None:
    task = await Pipeline(shown.broker).wait_for("go").kiq()
    async with shown.client("viewer-key-0001") as client:
        page = (await client.get(f"/runs/{task.task_id}")).text
        listing = (await client.get("/runs")).text
    await shown.operations.send_event(task.task_id, "go", None, actor="ada")
    await task.wait_result(timeout=20)

    for html, wanted in ((page, b"steps"), (listing, b"data: runs")):
        address = re.search(r'name="flow-events" content="/ops/flow([^"]+)"', html)
        assert address is not None
        path, _, query = unescape(address[1]).partition("?")
        told = await ask(
            *(shown.host, f"/ops/flow{path}", query),
            headers=[(b"x-api-key", b"viewer-key-0001")],
            until=b"event: changed",
        )
        assert wanted in told.body


def test_a_live_message_is_a_few_bytes_and_says_where_to_go_on() -> None:
    everything = frozenset({"run", "steps", "items", "progress", "logs", "events"})
    change = Change("1700000000000-12/345", frozenset({"a" * 36}), everything)

    message = message_of(change)

    assert message == (
        b"id: 1700000000000-12/345\nevent: changed\ndata: events items logs progress run steps\n\n"
    )
    assert len(message) <= 1024
    assert message_of(Change("1-0", frozenset(), frozenset())).startswith(b":")
    longest = message_of(Change("9:9:" + "9," * 2000, frozenset({"a" * 36}), everything))
    assert longest == message[message.index(b"event") :], "a position may name many transactions"


async def test_what_no_index_counts_is_counted_so_far_and_says_that_there_may_be_more(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "COUNTED_MOST", 1)
    await a_run(shown)
    await a_run(shown)

    async with shown.client("viewer-key-0001") as client:
        every = (await client.get("/runs")).text
        named = (await client.get("/runs?name=shop_import")).text

    assert "Failed <b>2</b>" in every
    assert "Failed <b>1+</b>" in named


async def test_the_page_of_a_run_says_why_it_stands_still(shown: Shown) -> None:
    """Trouble in a banner, with what helps; what only takes time, or an event, in a line."""
    store, queue = shown.operations.store, "ListQueueBroker:host:6379/0:<b>mail"

    @shown.broker.task(task_name="shop:ship")
    async def ship(value: int) -> int:
        return value

    waiting = await Pipeline(shown.broker).wait_for("<b>approved").call_next(ship).kiq()
    client = RunClient.of(shown.broker)
    lonely = (await client.results.plan(waiting.task_id)).steps[1]
    plan = Plan("sequential", (lonely._replace(after=(), queue=queue, args=()),), Const("null"))
    run_id = str(uuid.uuid4())
    await client.store.create(
        NewRun(run_id, store.options.namespace, plan.records, plan.stored, "")
    )
    await store.announce(
        WorkerRecord("w", store.options.namespace, ("x:y",), (), 0.0), ttl_seconds=60
    )

    async with shown.client("viewer-key-0001") as browser:
        stuck = (await browser.get(f"/runs/{run_id}?region=head")).text
        calm = (await browser.get(f"/runs/{waiting.task_id}?region=head")).text
        overview = (await browser.get("/?region=problems")).text

    assert 'class="banner is-retrying"' in stuck
    assert "no live worker serves queue ListQueueBroker:host:6379/0:&lt;b&gt;mail" in stuck
    assert "start one with <code>taskiq worker</code>" in stuck
    assert "banner" not in calm
    assert "waits for the event &#39;&lt;b&gt;approved&#39;" in calm
    assert "<b>approved" not in calm + stuck
    assert "<span>No live worker serves queue ListQueueBroker:host:6379/0:&lt;b&gt;m" in overview
    assert "start one with <code>taskiq worker</code>" in overview


async def test_the_page_of_a_failed_run_begins_with_its_errors(shown: Shown) -> None:
    failed = await a_run(shown)
    going = (await Pipeline(shown.broker).wait_for("approved").kiq()).task_id

    async with shown.client("viewer-key-0001") as client:
        pages = [(await client.get(f"/runs/{run_id}")).text for run_id in (failed, going)]

    chosen = [re.findall(r'id="tab-(\w+)"[^>]*aria-selected="true"', page) for page in pages]
    panes = [re.findall(r'id="pane-(\w+)"[^>]*>', page) for page in pages]
    open_panes = [re.findall(r'id="pane-(\w+)"(?![^>]*hidden)[^>]*>', page) for page in pages]
    assert chosen == open_panes == [["errors"], ["logs"]]
    assert panes == [["logs", "io", "errors", "events"]] * 2
    assert "<b>1</b> failure<" in pages[0]
    assert "<b>0 of 1</b> step ended" in pages[1]


async def test_an_unknown_place_is_said_on_a_page_and_in_a_word_to_a_fragment(shown: Shown) -> None:
    async with shown.client("viewer-key-0001") as client:
        page = await client.get("/runs/unknown")
        fragment = await client.get("/runs/unknown", params={"region": "graph"})
        cursor = await client.get("/runs", params={"cursor": "'; drop table"})

    assert (page.status_code, fragment.status_code, cursor.status_code) == (404, 404, 400)
    assert "There is no such run" in page.text
    assert fragment.headers["content-type"].startswith("text/plain")


PLAIN_HOSTILE = "{{ 7 * 7 }}<script>alert(1)</script>\"' autofocus"
HOSTILE = f"{PLAIN_HOSTILE} \x1b[31mred\x1b[0m \u202egnp.exe <img src=x onerror=alert(2)>"


async def test_hostile_names_of_tasks_queues_workers_and_schedules_are_only_text(
    shown: Shown,
) -> None:
    """Markup, colours, marks of direction, and lines of a megabyte, as a worker may announce."""
    texts = (HOSTILE, HOSTILE + "x" * 1_000_000)
    store = RunClient.of(shown.broker).store
    for number, text in enumerate(texts):
        worker = WorkerRecord(
            f"{number}{text}", store.options.namespace, (text,), (text,), 0.0, text, 1, text
        )
        await store.announce(worker, ttl_seconds=60.0)
    with_task = shown.broker.register_task(lambda: None, task_name=HOSTILE)
    pipeline = Pipeline(shown.broker, with_task).with_name(HOSTILE)
    scheduler = PipelineScheduler(shown.broker)
    await scheduler.schedule_interval(pipeline, 3600.0, job_id=PLAIN_HOSTILE)

    async with shown.client("operator-key-01") as client:
        for path in ("/tasks", "/queues", "/schedules", "/workers"):
            page = (await client.get(path)).text
            assert "&lt;script&gt;" in page, path
            assert "{{ 7 * 7 }}" in unescape(page), path
            assert not re.search("<script>|<img|[\x1b\u202e]|[\"'] autofocus", page), path
            assert len(page) < 40_000, path
