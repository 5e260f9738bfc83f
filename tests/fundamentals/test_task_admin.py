"""The REST routes of background tasks: lists, retries, cancels, queues, history, audit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fastapi_taskflow import (
    QueueConfig,
    QueueFullError,
    TaskAdmin,
    TaskManager,
    TaskStatus,
    task_log,
)
from fastapi_taskflow.api import Desk
from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.stores.memory import MemoryRunStore


class Bank:
    """What the tasks depend on."""

    is_down = True
    opens = asyncio.Event()


async def send_mail(address: str, subject: str = "hello") -> str:
    task_log(f"to {address}")
    return address


async def break_down(number: int = 0) -> None:
    if Bank.is_down:
        raise ValueError(f"broken {number}")


async def wait() -> None:
    await Bank.opens.wait()


class App:
    """An application with a manager and its routes, and a client that may do everything."""

    def __init__(self, **options: Any) -> None:
        self.manager = TaskManager(
            queues={"mails": QueueConfig(concurrency=2, max_size=50)}, **options
        )
        self.app = FastAPI()
        self.manager.task(queue="mails")(send_mail)
        self.manager.task()(break_down)
        self.manager.task()(wait)

    @asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        TaskAdmin(self.app, self.manager, **{"auth": False, **options})
        transport = httpx.ASGITransport(self.app)
        async with (
            self.app.router.lifespan_context(self.app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            yield client

    async def ended(self, *task_ids: str) -> None:
        assert await self.manager.wait(task_ids, timeout=20)

    async def run(self, func: Any, *args: Any, **options: Any) -> str:
        task_id = self.manager.add_task(func, *args, **options)
        await self.ended(task_id)
        return task_id

    async def until(self, task_id: str, status: TaskStatus) -> None:
        async with asyncio.timeout(20):
            while True:
                record = await self.manager.store.aget(task_id)
                if record is not None and record.status is status:
                    return
                await asyncio.sleep(0.01)


@pytest.fixture
def app() -> App:
    Bank.is_down, Bank.opens = True, asyncio.Event()
    return App()


async def test_a_task_is_shown_with_its_log_and_result_and_without_its_arguments(app: App) -> None:
    async with app.running() as client:
        task_id = await app.run(send_mail, "a@b.c", tags={"tenant": "x"})

        shown = (await client.get(f"/tasks/{task_id}")).json()

    assert (shown["func_name"], shown["status"]) == ("send_mail", "success")
    assert (shown["queue"], shown["tags"]) == ("mails", {"tenant": "x"})
    assert shown["logs"][0].endswith(" to a@b.c")
    assert (shown["result"], shown["args"], shown["kwargs"]) == ("a@b.c", None, None)
    assert shown["duration"] >= 0


async def test_arguments_are_shown_when_that_is_wanted(app: App) -> None:
    async with app.running(display_func_args=True) as client:
        task_id = await app.run(send_mail, "a@b.c", subject="bye")

        shown = (await client.get(f"/tasks/{task_id}")).json()

    assert (shown["args"], shown["kwargs"]) == (["a@b.c"], {"subject": "bye"})


async def test_a_list_goes_on_page_by_page_newest_first(app: App) -> None:
    async with app.running() as client:
        made = [await app.run(send_mail, str(number)) for number in range(5)]

        found: list[str] = []
        address: str | None = "/tasks?limit=2"
        while address is not None:
            page = await client.get(address)
            found += [task["task_id"] for task in page.json()]
            address = page.links["next"]["url"] if "next" in page.links else None

    assert found == made[::-1]


async def test_a_list_is_narrowed_by_what_tasks_are(app: App) -> None:
    async with app.running() as client:
        mail = await app.run(send_mail, "a@b.c", tags={"tenant": "x"})
        broken = await app.run(break_down)

        async def found(query: str) -> list[str]:
            return [task["task_id"] for task in (await client.get(f"/tasks?{query}")).json()]

        assert await found("status=failed") == [broken]
        assert await found("func_name=send_mail") == [mail]
        assert await found("tag=tenant%3Dx") == [mail]
        assert await found("queue=mails") == [mail]
        assert await found("queue=default") == [broken]
        assert await found("source=scheduled") == []
        assert await found("since=2999-01-01T00:00:00Z") == []
        assert await found("until=2999-01-01T00:00:00Z") == [broken, mail]


NONSENSE = [
    ("GET", "/tasks?status=lost", None, "'pending', 'running'"),
    ("GET", "/tasks?limit=0", None, "greater than or equal to 1"),
    ("GET", "/tasks?colour=red", None, "Extra inputs are not permitted"),
    ("GET", "/tasks?since=2026-01-01T00:00:00", None, "should have timezone info"),
    ("PATCH", "/tasks/queues/mails", {"concurrency": 0}, "greater than or equal to 1"),
    ("PATCH", "/tasks/queues/mails", {"concurrency": "abc"}, "valid integer"),
    ("PATCH", "/tasks/queues/mails", {"speed": 3}, "Extra inputs are not permitted"),
    ("DELETE", "/tasks/history?value=1&unit=year", None, "'min', 'hour' or 'day'"),
    ("DELETE", "/tasks/history?value=-1", None, "greater than or equal to 0"),
    ("POST", "/tasks/bulk-retry", {}, "Field required"),
]


async def test_what_makes_no_sense_is_refused_with_the_reason(app: App) -> None:
    async with app.running() as client:
        for method, address, body, words in NONSENSE:
            answer = await client.request(method, address, json=body)

            assert answer.status_code == 422, (method, address)
            assert words in answer.text


async def test_a_cursor_that_no_page_gave_is_refused(app: App) -> None:
    async with app.running() as client:
        for address in ("/tasks", "/tasks/audit"):
            answer = await client.get(address, params={"cursor": "none"})

            assert answer.status_code == 400
            assert "is not the cursor of a page" in answer.json()["detail"]


async def test_a_retry_that_the_store_does_not_take_answers_503(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.running() as client:
        task_id = await app.run(break_down)

        async def refuse(*_: object, **__: object) -> None:
            raise StoreUnavailableError("memory://", "it is full")

        for method in ("create", "create_started"):
            monkeypatch.setattr(MemoryRunStore, method, refuse)
        answer = await client.post(f"/tasks/{task_id}/retry")

        assert answer.status_code == 503
        assert "it is full" in answer.json()["detail"]
        assert (await client.get(f"/tasks/{task_id}")).json()["status"] == "failed"


async def test_metrics_count_every_status_and_the_rate_is_of_those_that_ended(app: App) -> None:
    async with app.running() as client:
        await app.run(send_mail, "a@b.c")
        await app.run(break_down)
        going = app.manager.add_task(wait)
        await app.until(going, TaskStatus.RUNNING)

        metrics = (await client.get("/tasks/metrics")).json()
        Bank.opens.set()

    assert metrics.pop("avg_duration_seconds") >= 0
    assert metrics == {
        "total": 3,
        "pending": 0,
        "running": 1,
        "success": 1,
        "failed": 1,
        "interrupted": 0,
        "cancelled": 0,
        "rejected": 0,
        "success_rate": 50.0,
    }


async def test_a_failed_task_is_run_again_and_who_did_it_is_written_down(app: App) -> None:
    async with app.running(auth=("alice", "a long password")) as client:
        session = (
            await client.post(
                "/tasks/auth/login", json={"username": "alice", "password": "a long password"}
            )
        ).json()
        client.headers["x-csrf-token"] = session["csrf_token"]
        task_id = await app.run(break_down, 7)
        Bank.is_down = False

        answer = (await client.post(f"/tasks/{task_id}/retry")).json()

        assert answer["task_id"] == answer["task"]["task_id"] != task_id
        await app.ended(answer["task_id"])
        again = (await client.get(f"/tasks/{answer['task_id']}")).json()
        entry = (await client.get("/tasks/audit")).json()[0]
    assert (again["status"], again["func_name"]) == ("success", "break_down")
    assert (entry["action"], entry["actor"], entry["task_id"]) == ("retry", "alice", task_id)
    assert entry["detail"]["new_task_id"] == answer["task_id"]


async def test_a_task_that_succeeded_or_is_unknown_is_not_run_again(app: App) -> None:
    async with app.running() as client:
        task_id = await app.run(send_mail, "a@b.c")

        ended = await client.post(f"/tasks/{task_id}/retry")
        unknown = await client.post("/tasks/nobody/retry")

    assert (ended.status_code, unknown.status_code) == (400, 404)
    assert "it has succeeded" in ended.json()["detail"]


async def test_a_task_whose_function_is_gone_answers_409(app: App) -> None:
    def gone() -> None:
        """Of no module: another process would not find it."""
        raise ValueError("first")

    async with app.running() as client:
        task_id = await app.run(gone)

        answer = await client.post(f"/tasks/{task_id}/retry")

    assert answer.status_code == 409
    assert "no longer registered" in answer.json()["detail"]


async def test_a_task_that_waits_is_cancelled_and_never_runs(app: App) -> None:
    async with app.running() as client:
        going = [app.manager.add_task(wait, queue="mails") for _ in range(2)]
        for task_id in going:
            await app.until(task_id, TaskStatus.RUNNING)
        waiting = app.manager.add_task(send_mail, "a@b.c")

        answer = await client.post(f"/tasks/{waiting}/cancel")
        again = await client.post(f"/tasks/{waiting}/cancel")
        Bank.opens.set()
        await app.ended(*going)

        record = (await client.get(f"/tasks/{waiting}")).json()
    assert (answer.status_code, again.status_code) == (200, 400)
    assert (record["status"], record["logs"]) == ("cancelled", [])
    assert record["error"] == "cancelled by anybody"


async def test_several_tasks_are_run_again_and_those_that_cannot_be_say_why(app: App) -> None:
    async with app.running() as client:
        broken = [await app.run(break_down, number) for number in range(2)]
        done = await app.run(send_mail, "a@b.c")
        Bank.is_down = False

        answer = (
            await client.post("/tasks/bulk-retry", json={"task_ids": [*broken, done, "nobody"]})
        ).json()

    assert (answer["dispatched"], answer["skipped"]) == (2, 2)
    results = {result["original_task_id"]: result for result in answer["results"]}
    assert all(results[task_id]["new_task_id"] for task_id in broken)
    assert "it has succeeded" in results[done]["error"]
    assert "there is none" in results["nobody"]["error"]


async def test_failed_and_rejected_tasks_of_a_window_are_run_again(app: App) -> None:
    async with app.running() as client:
        failed = await app.run(break_down, 1)
        app.manager.update_queue_config("mails", concurrency=1, max_size=1)
        going = app.manager.add_task(wait, queue="mails")
        await app.until(going, TaskStatus.RUNNING)
        first = app.manager.add_task(send_mail, "first")
        with pytest.raises(QueueFullError) as refused:
            app.manager.add_task(send_mail, "second")
        rejected = refused.value.task_id
        await app.until(rejected, TaskStatus.REJECTED)
        Bank.opens.set()
        await app.ended(going, first)

        other = (await client.post("/tasks/retry-failed?func_name=wait&since=1h")).json()
        answer = (await client.post("/tasks/retry-failed?since=7d")).json()
        wrong = await client.post("/tasks/retry-failed?since=soon")

    assert (other["dispatched"], answer["dispatched"]) == (0, 2)
    again = {result["original_task_id"] for result in answer["results"]}
    assert again == {failed, rejected}
    assert wrong.status_code == 400
    assert "12h, 7d or all" in wrong.json()["detail"]


async def test_retention_that_admin_is_given_goes_before_the_managers(app: App) -> None:
    TaskAdmin(app.app, app.manager, auth=False, retention_days=2)

    assert app.manager.run_store.twin().options.retention_seconds == 2 * 86_400
    with pytest.raises(ValueError, match="retention_days=0 must be above 0"):
        TaskAdmin(FastAPI(), app.manager, auth=False, retention_days=0)


async def test_a_list_without_details_is_cheaper(app: App) -> None:
    async with app.running(display_func_args=True) as client:
        await app.run(send_mail, "a@b.c")

        (whole,) = (await client.get("/tasks")).json()
        (part,) = (await client.get("/tasks?full=false")).json()

    assert (whole["result"], whole["args"], len(whole["logs"])) == ("a@b.c", ["a@b.c"], 1)
    assert (part["result"], part["args"], part["logs"]) == (None, [], [])
    assert part["status"] == "success"


async def test_history_is_deleted_by_age_and_what_goes_on_stays(app: App) -> None:
    async with app.running() as client:
        await app.run(send_mail, "a@b.c")
        await app.run(break_down)
        going = app.manager.add_task(wait)
        await app.until(going, TaskStatus.RUNNING)

        young = (await client.delete("/tasks/history?value=1&unit=hour")).json()
        all_of_them = (await client.delete("/tasks/history?value=0&unit=min")).json()
        left = (await client.get("/tasks")).json()
        Bank.opens.set()

    assert young["deleted"] == 0
    assert all_of_them == {"deleted": 2, "store": 2, "backend": 0}
    assert [task["task_id"] for task in left] == [going]


async def test_a_queue_is_changed_in_what_is_named_and_keeps_the_rest(app: App) -> None:
    async with app.running() as client:
        changed = (await client.patch("/tasks/queues/mails", json={"concurrency": 8})).json()
        freed = (await client.patch("/tasks/queues/mails", json={"max_size": None})).json()
        unknown = await client.patch("/tasks/queues/nowhere", json={"concurrency": 8})

        listed = {queue["name"]: queue for queue in (await client.get("/tasks/queues")).json()}

    assert (changed["concurrency"], changed["max_size"]) == (8, 50)
    assert (freed["concurrency"], freed["max_size"]) == (8, None)
    assert unknown.status_code == 404
    assert "default, mails" in unknown.json()["detail"]
    assert listed["mails"] == freed
    assert set(listed) == {"default", "mails"}


async def test_queues_show_what_waits_and_runs_of_them_on_all_instances(tmp_path: Path) -> None:
    Bank.opens = asyncio.Event()
    first, second = (App(snapshot_db=str(tmp_path / "tasks.db")) for _ in range(2))
    async with first.manager, second.running() as client:
        ids = [first.manager.add_task(wait, queue="mails") for _ in range(6)]
        ids.append(first.manager.add_task(wait))
        for task_id in (ids[0], ids[1], ids[-1]):
            await first.until(task_id, TaskStatus.RUNNING)

        listed = {queue["name"]: queue for queue in (await client.get("/tasks/queues")).json()}
        changed = (await client.patch("/tasks/queues/mails", json={"max_size": 9})).json()
        Bank.opens.set()
        await first.ended(*ids)
        after = {queue["name"]: queue for queue in (await client.get("/tasks/queues")).json()}

    default, mails = listed["default"], listed["mails"]
    assert (default["pending"], default["running"]) == (0, 1)
    assert mails["pending"] + mails["running"] == 6
    # Each instance runs two; the second takes some of the first one's when it starts.
    assert mails["running"] in range(2, 5)
    assert changed["pending"] + changed["running"] == 6
    assert {(queue["pending"], queue["running"]) for queue in after.values()} == {(0, 0)}


async def test_what_was_refused_is_in_the_audit_with_the_reason(app: App) -> None:
    async with app.running() as client:
        task_id = await app.run(send_mail, "a@b.c")
        answers = [
            await client.post(f"/tasks/{task_id}/retry"),
            await client.post(f"/tasks/{task_id}/cancel"),
            await client.post("/tasks/nobody/cancel"),
            await client.post("/tasks/retry-failed?since=soon"),
            await client.patch("/tasks/queues/nowhere", json={"concurrency": 8}),
        ]
        audit = (await client.get("/tasks/audit")).json()

    assert [answer.status_code for answer in answers] == [400, 400, 404, 400, 404]
    assert [(entry["action"], entry["task_id"], entry["detail"]["ok"]) for entry in audit] == [
        ("change_queue", "nowhere", False),
        ("retry_failed", "*", False),
        ("cancel", "nobody", False),
        ("cancel", task_id, False),
        ("retry", task_id, False),
    ]
    for entry, answer in zip(audit, reversed(answers), strict=True):
        assert entry["detail"]["error"] == answer.json()["detail"]


async def test_a_history_from_before_all_time_is_empty(app: App) -> None:
    async with app.running() as client:
        await app.run(send_mail, "a@b.c")
        answer = await client.delete("/tasks/history?value=1000000&unit=day")

    assert (answer.status_code, answer.json()["deleted"]) == (200, 0)


async def test_what_was_done_outlives_a_restart(tmp_path: Path) -> None:
    """Tasks, bounds of queues set by a route, and the audit, in a durable store."""
    Bank.is_down = True
    place = str(tmp_path / "tasks.db")
    first = App(snapshot_db=place)
    async with first.running() as client:
        broken = await first.run(break_down)
        cancelled = await client.post(f"/tasks/{broken}/cancel")
        await client.patch("/tasks/queues/mails", json={"concurrency": 7})
        again = (await client.post(f"/tasks/{broken}/retry")).json()["task_id"]
        await first.ended(again)

    second = App(snapshot_db=place)
    async with second.running() as client:
        listed = (await client.get("/tasks")).json()
        queues = {queue["name"]: queue for queue in (await client.get("/tasks/queues")).json()}
        audit = (await client.get("/tasks/audit")).json()
        deleted = (await client.delete("/tasks/history?value=0")).json()
        left = (await client.get("/tasks/metrics")).json()["total"]

    assert cancelled.status_code == 400
    assert [(task["task_id"], task["status"]) for task in listed] == [(again, "failed")]
    assert (queues["mails"]["concurrency"], queues["mails"]["max_size"]) == (7, 50)
    assert [entry["action"] for entry in audit] == ["retry", "change_queue", "cancel"]
    assert (deleted, left) == ({"deleted": 1, "store": 0, "backend": 1}, 0)


async def test_the_routes_are_part_of_the_applications_openapi(app: App) -> None:
    async with app.running(path="/admin/tasks"):
        paths = app.app.openapi()["paths"]

    assert set(paths) == {
        "/admin/tasks",
        "/admin/tasks/metrics",
        "/admin/tasks/queues",
        "/admin/tasks/queues/{name}",
        "/admin/tasks/audit",
        "/admin/tasks/bulk-retry",
        "/admin/tasks/retry-failed",
        "/admin/tasks/history",
        "/admin/tasks/{task_id}",
        "/admin/tasks/{task_id}/retry",
        "/admin/tasks/{task_id}/cancel",
    }
    answer = paths["/admin/tasks/{task_id}"]["get"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/TaskOut")


@pytest.mark.parametrize("shown", [False, True])
async def test_the_dashboard_shows_tasks_and_their_arguments_only_when_wanted(
    app: App, shown: bool
) -> None:
    async with app.running(display_func_args=shown) as client:
        task_id = await app.run(break_down, 271828)

        front = await client.get("/tasks/dashboard", follow_redirects=True)
        page = await client.get(f"/tasks/dashboard/runs/{task_id}")
        value = await client.get(f"/tasks/dashboard/runs/{task_id}/value?name=input:arguments")

    assert front.status_code == page.status_code == 200
    assert "break_down" in page.text
    # The error says the number too.
    assert ("271828" in page.text.replace("broken 271828", "")) is shown
    assert ("271828" in value.text) is shown


async def test_a_dashboard_whose_store_is_away_opens_when_that_is_back(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.running() as client:
        with monkeypatch.context() as away:

            async def refuse(_: object) -> None:
                raise StoreUnavailableError("redis://private", "no answer")

            away.setattr(Desk, "operations", refuse)
            refused = await client.get("/tasks/dashboard/")
        opened = await client.get("/tasks/dashboard/")

    assert refused.status_code == 503
    assert refused.json() == {"detail": "The store of the tasks does not answer."}
    assert opened.status_code == 200


async def test_a_task_that_is_retried_on_the_dashboard_runs_and_is_a_task_again(app: App) -> None:
    async with app.running() as client:
        task_id = await app.run(break_down, 1)
        Bank.is_down = False

        made = await client.post(f"/tasks/dashboard/runs/{task_id}/retry")
        again = made.headers["location"].rpartition("/")[2]
        await app.ended(again)
        shown = (await client.get(f"/tasks/{again}")).json()
        (entry,) = (await client.get("/tasks/audit")).json()

    assert (shown["status"], shown["func_name"]) == ("success", "break_down")
    assert entry["detail"]["made"] == again
