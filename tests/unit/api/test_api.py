"""Every route has a role, hostile input changes nothing, streams can be gone on with."""

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from taskiq import InMemoryBroker

from taskiq_flow import (
    DataflowPipeline,
    Pipeline,
    PipelineMiddleware,
    PipelineVisualizationAPI,
    TaskiqFlowConfig,
    create_visualization_api,
    pipeline_task,
)
from taskiq_flow.exceptions import MissingExtraError
from taskiq_flow.security import Role, Security

KEYS = {role: f"the-key-of-the-{role}" for role in Role}
LIMITED = "the-key-of-one-pipeline"
HEADERS = {role: {"x-api-key": key} for role, key in KEYS.items()}
ADMIN = HEADERS[Role.ADMIN]
SETTINGS: dict[str, Any] = {
    "api_keys": {
        **{key: {"role": role.value, "name": role.value} for role, key in KEYS.items()},
        LIMITED: {"role": "operator", "pipelines": ["etl*"], "name": "limited"},
    }
}


@dataclass
class Served:
    """An API with pipelines, in this process."""

    api: PipelineVisualizationAPI
    client: TestClient

    def get(self, path: str, headers: dict[str, str] = ADMIN) -> Any:
        answer = self.client.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def start(self, pipeline_id: str, *args: Any) -> str:
        """Start a run, wait for its end, and return its id."""
        body = {"args": list(args)}
        answer = self.client.post(f"/pipelines/{pipeline_id}/execute", headers=ADMIN, json=body)
        assert answer.status_code == 202, answer.text
        run_id: str = answer.json()["run_id"]
        self.client.get(f"/runs/{run_id}/stream", headers=ADMIN)  # until it has ended
        return run_id


def make_broker() -> InMemoryBroker:
    return InMemoryBroker().with_middlewares(PipelineMiddleware(store="memory://"))


def serve(app: FastAPI | None = None, **settings: Any) -> PipelineVisualizationAPI:
    broker = make_broker()

    @broker.task(task_name="steps:double")
    async def double(x: int) -> int:
        if x == 3:
            raise ValueError("<script>alert(1)</script>\x1b[31m")
        return 2 * x

    @broker.task(task_name="steps:total")
    async def total(xs: list[int]) -> int:
        return sum(x or 0 for x in xs)

    @broker.task
    @pipeline_task(output="a")
    async def make_a(x: int) -> int:
        return x

    @broker.task
    @pipeline_task(output="b")
    async def make_b(a: int) -> int:
        return a + 1

    config = TaskiqFlowConfig(**{**SETTINGS, **settings})
    api = PipelineVisualizationAPI(broker, app, config)
    api.add_pipeline("etl", Pipeline(broker, double))
    api.add_pipeline("mapped", Pipeline(broker).map(double, skip_errors=True).call_next(total))
    api.add_pipeline("graph", DataflowPipeline.from_tasks(broker, [make_a, make_b]))
    return api


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    api = serve()
    with TestClient(api.get_app(), raise_server_exceptions=False) as client:
        yield Served(api, client)


# -- roles

VIEWED = """
    /store /whoami /overview /workers /queues /tasks /metrics /schedules /dead-letters /stream /runs
    /runs/{ref} /runs/{ref}/summary /runs/{ref}/children /runs/{ref}/graph /runs/{ref}/timeline
    /runs/{ref}/items /runs/{ref}/heat /runs/{ref}/value /runs/{ref}/logs /runs/{ref}/events
    /runs/{ref}/stream /pipelines /pipelines/{pipeline_id}/status /pipelines/{pipeline_id}/dag
    /pipelines/{pipeline_id}/dag/dot /pipelines/{pipeline_id}/visualize
    /pipelines/{pipeline_id}/result /dag/{pipeline_id} /dag/{pipeline_id}/critical-path
    /dag/{pipeline_id}/parallel-groups /openapi.json
"""
OPERATED = """
    /schedules/{schedule_id}/pause /schedules/{schedule_id}/resume /schedules/{schedule_id}/run
    /dead-letters/replay /runs/{ref}/cancel /runs/{ref}/retry /runs/{ref}/resume /runs/{ref}/fork
    /runs/{ref}/events /pipelines/{pipeline_id} /pipelines/{pipeline_id}/execute
"""
ROLES: dict[tuple[str, str], Role | None] = {
    ("GET", "/health"): None,
    **{("GET", path): Role.VIEWER for path in VIEWED.split()},
    **{("POST", path): Role.OPERATOR for path in OPERATED.split()},
    ("POST", "/purge"): Role.ADMIN,
    ("GET", "/audit"): Role.ADMIN,
    ("DELETE", "/runs/{ref}"): Role.ADMIN,
    ("DELETE", "/schedules/{schedule_id}"): Role.ADMIN,
    ("WEBSOCKET", "/ws"): Role.VIEWER,
    ("WEBSOCKET", "/ws/{pipeline_id}"): Role.VIEWER,
}


def routes_of(router: Any) -> set[tuple[str, str]]:
    """Every method and path of a router, and of those that it includes."""
    found: set[tuple[str, str]] = set()
    for route in router.routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            found |= routes_of(included)
            continue
        found |= {(method, route.path) for method in getattr(route, "methods", ["WEBSOCKET"])}
    return found


def test_every_route_is_listed_with_its_role(served: Served) -> None:
    assert routes_of(served.api.get_app().router) == set(ROLES)


def ask(client: TestClient, method: str, path: str, headers: dict[str, str]) -> int:
    """Send a request that names nothing that is there; returns the status."""
    for name in ("ref", "pipeline_id", "schedule_id"):
        path = path.replace(f"{{{name}}}", "nothing")
    body = [] if path == "/pipelines/nothing" else {}
    # A position that no feed has ends the one stream that would go on for ever.
    asked = f"{path}?after=no-position" if path == "/stream" else path
    sent = {"json": body} if method == "POST" else {}
    return client.request(method, asked, headers=headers, **sent).status_code


@pytest.mark.parametrize("who", [None, *Role])
def test_each_route_answers_those_of_its_role_and_nobody_else(
    served: Served, who: Role | None
) -> None:
    headers = {} if who is None else HEADERS[who]
    for (method, path), role in ROLES.items():
        if method == "WEBSOCKET":
            continue
        status = ask(served.client, method, path, headers)
        if role is None:
            assert status == 200, path
        elif who is None:
            assert status == 401, (method, path)
        elif who.allows(role):
            assert status not in (401, 403, 500), (method, path)
        else:
            assert status == 403, (method, path)


@pytest.mark.parametrize("path", ["/ws", "/ws/etl"])
def test_a_socket_opens_for_those_who_may_look_only(served: Served, path: str) -> None:
    with pytest.raises(WebSocketDisconnect), served.client.websocket_connect(path):
        pytest.fail("it was opened")
    with pytest.raises(WebSocketDisconnect), served.client.websocket_connect(f"{path}?token=no"):
        pytest.fail("it was opened")
    evil = {**HEADERS[Role.VIEWER], "origin": "http://evil.example"}
    with pytest.raises(WebSocketDisconnect), served.client.websocket_connect(path, headers=evil):
        pytest.fail("it was opened")

    with served.client.websocket_connect(path, headers=HEADERS[Role.VIEWER]) as socket:
        socket.send_json({"type": "ping"})
        assert socket.receive_json() == {"type": "pong"}


def test_nothing_is_changed_by_a_get(served: Served) -> None:
    acting = {path for (method, path), _ in ROLES.items() if method in ("POST", "DELETE")}

    for path in acting - {path for (method, path) in ROLES if method == "GET"}:
        assert ask(served.client, "GET", path, ADMIN) == 405, path


def test_a_page_of_another_site_changes_nothing(served: Served) -> None:
    headers = {**ADMIN, "origin": "http://evil.example"}

    answer = served.client.post("/runs/nothing/cancel", headers=headers)

    assert answer.status_code == 403
    assert "another site" in answer.json()["detail"]


# -- who sees what


def test_a_key_of_some_pipelines_sees_and_does_nothing_of_others(served: Served) -> None:
    headers = {"x-api-key": LIMITED}
    run_id = served.start("mapped", [1, 2])

    assert served.get("/runs", headers)["runs"] == []
    assert [one["id"] for one in served.get("/pipelines", headers)] == ["etl"]
    for path in ("", "/graph", "/timeline", "/logs", "/events", "/value", "/stream", "/children"):
        answer = served.client.get(f"/runs/{run_id}{path}", headers=headers)
        assert answer.status_code == 404, path
    for action in ("cancel", "retry", "resume"):
        answer = served.client.post(f"/runs/{run_id}/{action}", headers=headers)
        assert answer.status_code == 404, action
    for path in ("status", "dag", "dag/dot", "visualize", "result"):
        assert served.client.get(f"/pipelines/mapped/{path}", headers=headers).status_code == 404
    for path in ("/overview", "/workers", "/queues", "/tasks", "/store", "/metrics"):
        assert served.client.get(path, headers=headers).status_code == 403, path
    assert served.client.post("/pipelines/mapped/execute", headers=headers).status_code == 404


def test_a_key_of_some_pipelines_hears_of_no_others(served: Served) -> None:
    broker = served.api.broker
    double = broker.find_task("steps:double")
    assert double is not None
    served.api.add_pipeline("hers", Pipeline(broker, double).with_id("etl-7"))

    with served.client.websocket_connect("/ws", headers={"x-api-key": LIMITED}) as socket:
        socket.send_json({"pipeline_id": "*"})
        socket.receive_json()
        served.start("mapped", [1, 2])
        served.start("hers", 1)
        first = socket.receive_json()

    assert (first["type"], first["pipeline_id"]) == ("run_created", "etl-7")


def test_rules_of_pipelines_narrow_what_roles_may_do() -> None:
    api = serve(pipeline_acls={"etl": {"read": ["viewer", "operator"]}})

    with TestClient(api.get_app()) as client:
        seen = client.get("/pipelines", headers=HEADERS[Role.OPERATOR]).json()
        refused = client.post("/pipelines/etl/execute", headers=HEADERS[Role.OPERATOR])

    assert [one["id"] for one in seen] == ["etl"]
    assert refused.status_code == 403


# -- hostile input

HOSTILE = [
    "..", "%2e%2e", "%00", "%0a", "<script>", "a" * 5000, "%F0%9F%94%91", "*", "%ff", "'--", "{}",
    "%5C", ";", "%E2%80%AE",
]  # fmt: skip


@pytest.mark.parametrize("given", HOSTILE)
def test_an_id_that_is_none_is_not_found_and_breaks_nothing(served: Served, given: str) -> None:
    for path in ("/runs/{}", "/runs/{}/graph", "/runs/{}/logs", "/pipelines/{}/status", "/dag/{}"):
        answer = served.client.get(path.format(given), headers=ADMIN)
        assert answer.status_code in (400, 404), (path, answer.text)
    for path in ("/runs/{}/cancel", "/schedules/{}/pause"):
        answer = served.client.post(path.format(given), headers=ADMIN)
        assert answer.status_code in (400, 404, 405, 422), (path, answer.text)


@pytest.mark.parametrize(
    "query",
    [
        "cursor=x", "cursor=1e999%20a", "limit=0", "limit=100000", "status=DONE", "since=yesterday",
        "since=2026-01-01T00:00:00", "cursor=%00",
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(served: Served, query: str) -> None:
    answer = served.client.get(f"/runs?{query}", headers=ADMIN)

    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("path", ["/stream?after=x", "/stream?after=-1", "/audit?cursor=x"])
def test_a_position_that_no_feed_has_is_refused(served: Served, path: str) -> None:
    assert served.client.get(path, headers=ADMIN).status_code == 400


def test_what_a_task_says_comes_as_json_and_nothing_else(served: Served) -> None:
    run_id = served.start("etl", 3)

    answer = served.client.get(f"/runs/{run_id}", headers=ADMIN)

    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["error"]["message"] == "<script>alert(1)</script>\x1b[31m"


def test_a_picture_of_a_hostile_name_is_harmless(served: Served) -> None:
    answer = served.client.post("/pipelines/%3Cscript%3E", headers=ADMIN, json=["steps:double"])
    assert answer.status_code == 201

    svg = served.client.get("/pipelines/%3Cscript%3E/visualize", headers=ADMIN)

    assert svg.headers["content-type"] == "image/svg+xml"
    assert "<script" not in svg.text


def test_secrets_are_not_shown() -> None:
    broker = make_broker()

    @broker.task
    async def login(user: dict[str, str], token: str) -> dict[str, str]:
        return user

    api = PipelineVisualizationAPI(broker, config=TaskiqFlowConfig(**SETTINGS))
    api.add_pipeline("login", Pipeline(broker).call_next(login))
    with TestClient(api.get_app()) as client:
        served = Served(api, client)
        run_id = served.start("login", {"name": "ada", "password": "hunter2"}, "t0ken")
        whole = json.dumps(served.get(f"/runs/{run_id}"))

    assert "ada" in whole
    assert "hunter2" not in whole
    assert "t0ken" not in whole


# -- the documented shapes


def test_the_documented_routes_show_a_pipeline_and_its_newest_run(served: Served) -> None:
    before = served.get("/pipelines/graph/status")

    served.start("graph", 1)

    assert before["status"] == "registered"
    after = served.get("/pipelines/graph/status")
    assert after["status"] == "COMPLETED"
    assert [step["step_name"] for step in after["steps"]] == ["a", "b"]
    dag = served.get("/pipelines/graph/dag")
    assert [(edge["from"], edge["to"]) for edge in dag["edges"]] == [("a", "b")]
    assert served.get("/pipelines/graph/result")["value"] == {"a": 1, "b": 2}
    dot = served.client.get("/pipelines/graph/dag/dot", headers=ADMIN)
    assert dot.text.startswith("digraph")
    assert served.get("/dag/graph/critical-path") == {"critical_path": ["a", "b"]}
    assert served.api.get_dag("graph") == dag


def test_the_api_can_be_added_to_an_app_and_leaves_its_routes_alone() -> None:
    app = FastAPI()

    @app.get("/own")
    async def own() -> str:
        return "mine"

    made = create_visualization_api(make_broker(), app, TaskiqFlowConfig(**SETTINGS))

    client = TestClient(made)
    assert made is app
    assert client.get("/own").json() == "mine"
    assert client.get("/runs").status_code == 401


def test_without_any_login_a_token_is_made(caplog: pytest.LogCaptureFixture) -> None:
    api = PipelineVisualizationAPI(make_broker(), config=TaskiqFlowConfig())

    client = TestClient(api.get_app())
    headers = {"authorization": f"Bearer {api.security.token}"}
    assert client.get("/whoami", headers=headers).json()["role"] == "admin"
    assert client.get("/whoami").status_code == 401
    assert api.security.token is not None
    assert api.security.token in caplog.text


def test_security_is_off_only_when_it_is_said() -> None:
    api = PipelineVisualizationAPI(make_broker(), security=Security.off())

    assert TestClient(api.get_app()).get("/runs").status_code == 200


def test_requests_that_are_too_many_are_refused_with_when_to_come_again() -> None:
    api = serve(rate_limit_default="3/hour", rate_limits={"/queues": "1/hour"})
    client = TestClient(api.get_app())

    answers = [client.get("/whoami", headers=ADMIN) for _ in range(4)]
    queues = [client.get("/queues", headers=HEADERS[Role.VIEWER]) for _ in range(2)]
    guesses = [client.get("/runs", headers={"x-api-key": f"guess-{n}"}) for n in range(5)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[3].headers["retry-after"]) > 60
    assert [answer.status_code for answer in queues] == [200, 429]
    assert client.get("/whoami", headers=HEADERS[Role.VIEWER]).status_code == 200
    # Keys cannot be guessed by trying many.
    assert [answer.status_code for answer in guesses] == [401, 401, 401, 429, 429]


# -- actions


def test_what_was_done_is_in_the_audit_with_who_did_it(served: Served) -> None:
    run_id = served.start("etl", 3)

    served.client.post(f"/runs/{run_id}/retry", headers=HEADERS[Role.OPERATOR])
    served.client.post(f"/runs/{run_id}/cancel", headers=HEADERS[Role.OPERATOR])
    served.client.delete(f"/runs/{run_id}", headers=ADMIN)

    entries = served.get("/audit?limit=3")["entries"]
    said = [(entry["actor"], entry["action"], entry["target"]) for entry in entries]
    assert said == [
        ("admin", "delete", run_id),
        ("operator", "cancel", run_id),
        ("operator", "retry", run_id),
    ]
    assert served.client.get(f"/runs/{run_id}", headers=ADMIN).status_code == 404


def test_a_fork_with_another_input_is_a_run_of_its_own(served: Served) -> None:
    run_id = served.start("etl", 3)

    body = {"inputs": {"x": 5}}
    made = served.client.post(f"/runs/{run_id}/fork", headers=ADMIN, json=body).json()
    served.client.get(f"/runs/{made['run_id']}/stream", headers=ADMIN)

    fork = served.get(f"/runs/{made['run_id']}")
    assert fork["result"]["value"] == 10
    assert fork["fork_of"] == run_id


def test_an_event_for_a_run_that_has_ended_is_refused(served: Served) -> None:
    run_id = served.start("etl", 1)

    body = {"name": "go", "payload": {"a": 1}}
    answer = served.client.post(f"/runs/{run_id}/events", headers=ADMIN, json=body)

    assert answer.status_code == 409


def test_dead_letters_are_replayed_by_filter(served: Served) -> None:
    served.start("etl", 3)
    before = len(served.get("/dead-letters?task=steps:double")["letters"])

    replayed = served.client.post(
        "/dead-letters/replay", headers=ADMIN, json={"task": "steps:double"}
    ).json()

    assert before > 0
    assert len(replayed["made"]) == before
    assert replayed["left"] == {}


def test_items_of_a_map_come_by_page_with_their_states(served: Served) -> None:
    run_id = served.start("mapped", list(range(6)))

    page = served.get(f"/runs/{run_id}/items?step=double&start=2&stop=5")

    assert [(item["number"], item["state"]) for item in page["items"]] == [
        (2, "done"), (3, "failed"), (4, "done"),
    ]  # fmt: skip
    assert page["total"] == 6
    assert page["items"][0]["given"]["value"] == 2
    heat = served.get(f"/runs/{run_id}/heat?step=double&cells=2")
    assert [cell["stop"] - cell["start"] for cell in heat["cells"]] == [3, 3]


# -- streams


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith('data: {"t')]


def test_a_stream_of_a_run_ends_with_it_and_goes_on_where_it_was_interrupted(
    served: Served,
) -> None:
    run_id = served.start("etl", 1)

    whole = served.client.get(f"/runs/{run_id}/stream", headers=ADMIN).text
    rest = served.client.get(f"/runs/{run_id}/stream", headers={**ADMIN, "last-event-id": "2"}).text

    seen = [event["seq"] for event in events_of(whole)]
    assert seen == list(range(1, len(seen) + 1))
    assert [event["seq"] for event in events_of(rest)] == seen[2:]
    assert whole.endswith("event: end\ndata: {}\n\n")


@pytest.mark.parametrize(
    "message",
    [
        {"type": "subscribe", "pipeline_id": "*"},
        {"pipeline_id": "*"},
        {"action": "subscribe", "channel": "pipeline.*"},
    ],
)
def test_each_documented_way_to_subscribe_is_understood(
    served: Served, message: dict[str, str]
) -> None:
    with served.client.websocket_connect("/ws", headers=ADMIN) as socket:
        socket.send_json(message)
        assert socket.receive_json() == {"type": "subscribed", "pipeline_id": "*"}
        run_id = served.start("etl", 1)

        first = socket.receive_json()

    assert (first["type"], first["run_id"], first["seq"]) == ("run_created", run_id, 1)


def test_a_socket_of_a_run_tells_its_events_to_the_end(served: Served) -> None:
    run_id = served.start("etl", 1)
    told: list[Any] = []

    with served.client.websocket_connect(f"/ws/{run_id}?after=1", headers=ADMIN) as socket:
        while not told or told[-1]["type"] != "end":
            told.append(socket.receive_json())

    assert [event["type"] for event in told] == [
        "run_started", "step_started", "step_completed", "run_completed", "end",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["no json", "[]", "{}", '{"type": "shout", "pipeline_id": "x"}', "[" * 50_000, "1" * 20_000],
)
def test_a_message_that_makes_no_sense_is_answered_and_the_socket_stays_open(
    served: Served, text: str
) -> None:
    with served.client.websocket_connect("/ws", headers=ADMIN) as socket:
        socket.send_text(text)
        assert socket.receive_json()["type"] == "error"
        socket.send_json({"type": "ping"})
        assert socket.receive_json() == {"type": "pong"}


def test_streams_and_subscriptions_are_bounded_and_say_that_they_are_alive() -> None:
    api = serve(
        websocket_max_connections=1,
        websocket_max_subscriptions=1,
        websocket_heartbeat_seconds=0.05,
    )
    with TestClient(api.get_app()) as client:
        with client.websocket_connect("/ws", headers=ADMIN) as socket:
            for name in ("a", "b"):
                socket.send_json({"pipeline_id": name})
            answers: set[str] = set()
            while answers != {"subscribed", "error", "ping"}:
                answers.add(socket.receive_json()["type"])
            with (
                pytest.raises(WebSocketDisconnect),
                client.websocket_connect("/ws", headers=ADMIN),
            ):
                pytest.fail("a second one was opened")
        with client.websocket_connect("/ws", headers=ADMIN):
            pass  # the first one has made room


def test_what_is_not_installed_is_named_with_its_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("taskiq_flow.api")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)

    with pytest.raises(MissingExtraError, match=r"taskiq-flow\[fastapi,dashboard\]"):
        importlib.import_module("taskiq_flow.api")
