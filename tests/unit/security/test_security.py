"""Who is let in, what a request may change, and what a login is worth."""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt as pyjwt
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from taskiq_flow import TaskiqFlowConfig
from taskiq_flow.exceptions import (
    NotAllowedError,
    NotAuthenticatedError,
    SecurityOptionError,
    TooManyAttemptsError,
)
from taskiq_flow.security import (
    COOKIE,
    HTTPSEnforcement,
    Identity,
    Limiter,
    PipelineAuthorization,
    Rate,
    Role,
    Security,
    SecurityMiddleware,
    TokenAuthProvider,
    hash_password,
    identity_of,
    requires,
    verify_pipeline_access,
)
from taskiq_flow.storage import InMemoryStorageAdapter

PASSWORD = "pässwörd ☃ 🔑"
SECRET = "s" * 32
KEY = "an-api-key-of-a-viewer"
TOKEN = "the-token-of-an-admin"


@dataclass
class Page:
    """A small app behind the door, and a browser before it."""

    security: Security
    path: str = ""
    scheme: str = "http"
    recorded: list[tuple[str, str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        async def record(actor: str, action: str, target: str, **facts: Any) -> None:
            self.recorded.append((actor, action, facts["ok"]))

        self.security.record = record
        routes = [
            Route("/me", self.me),
            Route("/change", self.change, methods=["POST", "PUT", "PATCH", "DELETE"]),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            WebSocketRoute("/socket", self.socket),
        ]
        app: Any = SecurityMiddleware(Starlette(routes=routes), self.security, login_path="/login")
        if self.path:
            app = Starlette(routes=[Mount(self.path, app=app)])
        address = f"{self.scheme}://test.example"
        self.browser = TestClient(app, base_url=address, follow_redirects=False)

    async def me(self, request: Request) -> Response:
        who = identity_of(request)
        token = self.security.csrf_token(request.scope)
        return JSONResponse({"name": who.name, "role": who.role, "csrf": token})

    @staticmethod
    @requires(Role.OPERATOR)
    async def change(request: Request) -> Response:
        return JSONResponse(dict(await request.form()))

    async def login(self, request: Request) -> Response:
        if request.method == "GET":
            return PlainTextResponse("who are you?")
        try:
            login = await self.security.login(request.scope, **await request.json())
        except NotAuthenticatedError as error:
            return PlainTextResponse(str(error), 401)
        except TooManyAttemptsError as error:
            return PlainTextResponse(str(error), 429)
        except NotAllowedError as error:
            return PlainTextResponse(str(error), 403)
        response = PlainTextResponse("welcome")
        response.raw_headers.append(login.cookie)
        return response

    async def logout(self, request: Request) -> Response:
        response = PlainTextResponse("bye")
        response.raw_headers.append(await self.security.logout(request.scope))
        return response

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(identity_of(socket).name)
        await socket.close()

    def log_in(self, **given: str) -> str:
        """Log a browser in, by the token (which is quick); returns what its pages send along."""
        answer = self.browser.post(f"{self.path}/login", json=given or {"token": TOKEN})
        assert answer.status_code == 200, answer.text
        csrf: str = self.browser.get(f"{self.path}/me").json()["csrf"]
        return csrf

    def connect(self, **headers: str) -> Any:
        """Open a socket as a browser does: with its cookie, its host and an origin."""
        kept = self.browser.cookies.get(COOKIE)
        cookie = {} if kept is None else {"cookie": f"{COOKIE}={kept}"}
        given = {"host": "test.example", **cookie, **headers}
        return self.browser.websocket_connect("/socket", headers=given)


HASH = hash_password(PASSWORD)


def users(role: Role = Role.OPERATOR) -> dict[str, Any]:
    return {"ada": {"password": HASH, "role": role}}


def page(**options: Any) -> Page:
    return Page(Security(**{"users": users(), "token": TOKEN, **options}))


def test_nobody_is_let_in_without_a_login_and_a_browser_is_sent_to_it() -> None:
    browser = page().browser

    assert browser.get("/me").status_code == 401
    sent = browser.get("/me?step=1", headers={"accept": "text/html"})
    assert sent.status_code == 303
    assert sent.headers["location"] == "/login?next=%2Fme%3Fstep%3D1"


def test_a_password_of_any_characters_logs_in_and_the_cookie_keeps_to_itself() -> None:
    served = page()

    answer = served.browser.post("/login", json={"name": "ada", "password": PASSWORD})

    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert served.browser.get("/me").json()["name"] == "ada"
    assert served.recorded == [("ada", "login", True)]


def test_the_cookie_is_for_https_only_where_the_page_is() -> None:
    served = Page(Security(token=TOKEN), scheme="https")

    answer = served.browser.post("/login", json={"token": TOKEN})

    assert "; Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("name", "password"),
    [("ada", "wrong"), ("nobody", PASSWORD), ("ada", ""), ("ada", "x" * 100_000), ("☃", "☃")],
)
def test_a_wrong_name_or_password_does_not_log_in(name: str, password: str) -> None:
    served = page()

    answer = served.browser.post("/login", json={"name": name, "password": password})

    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert served.recorded == [(name, "login", False)]


def test_a_token_that_is_made_at_the_start_logs_an_admin_in_by_its_address() -> None:
    served = Page(Security())
    assert served.security.is_token_made

    answer = served.browser.get(f"/me?a=1&token={served.security.token}")

    assert answer.status_code == 303
    assert answer.headers["location"] == "/me?a=1"
    assert served.browser.get("/me").json()["role"] == "admin"


def test_a_wrong_token_in_the_address_lets_nobody_in() -> None:
    assert Page(Security()).browser.get("/me?token=wrong").status_code == 401


def test_logins_that_fail_too_often_are_refused_even_when_they_become_right() -> None:
    served = page(login_rate="3/hour")
    for _ in range(3):
        served.browser.post("/login", json={"token": "wrong"})

    answer = served.browser.post("/login", json={"token": TOKEN})

    assert answer.status_code == 429


def test_a_name_is_not_tried_from_many_places() -> None:
    served = page(login_rate="2/hour")
    for number in range(2):
        app = TestClient(served.browser.app, client=(f"10.0.0.{number}", 1))
        app.post("/login", json={"name": "ada", "password": "x" * 2000})

    answer = served.browser.post("/login", json={"name": "ada", "password": PASSWORD})

    assert answer.status_code == 429


def test_logins_that_succeed_do_not_use_up_the_tries() -> None:
    served = page(login_rate="2/hour")

    for _ in range(4):
        served.log_in()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_session_changes_nothing_without_the_token_of_its_page(method: str) -> None:
    served = page()
    csrf = served.log_in()
    send = served.browser.request

    assert send(method, "/change").status_code == 403
    assert send(method, "/change", headers={"x-csrf-token": "guessed"}).status_code == 403
    assert send(method, "/change", headers={"x-csrf-token": csrf}).status_code == 200


def test_a_form_carries_the_token_in_a_field_and_reaches_its_handler_whole() -> None:
    served = page()
    csrf = served.log_in()

    answer = served.browser.post("/change", data={"csrf_token": csrf, "a": "ä&b"})

    assert answer.json() == {"csrf_token": csrf, "a": "ä&b"}
    assert served.browser.post("/change", data={"a": "1"}).status_code == 403


def test_the_token_of_one_session_is_of_no_use_to_another() -> None:
    served = page()
    first = served.log_in()
    served.log_in()

    answer = served.browser.post("/change", headers={"x-csrf-token": first})

    assert answer.status_code == 403


ELSEWHERE = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://test.example.evil.example"},
    {"origin": "http://test.example:8080"},
    {"origin": "file://test.example"},
    {"sec-fetch-site": "cross-site"},
]


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_a_page_of_another_site_changes_nothing_and_opens_no_socket(
    headers: dict[str, str],
) -> None:
    served = page()
    csrf = served.log_in()

    refused = served.browser.post("/change", headers={**headers, "x-csrf-token": csrf})
    login = served.browser.post("/login", headers=headers, json={"token": TOKEN})

    assert refused.status_code == 403
    assert login.status_code == 403
    with pytest.raises(WebSocketDisconnect), served.connect(**headers):
        pytest.fail("it was opened")


def test_without_security_a_page_of_another_site_still_changes_nothing() -> None:
    browser = Page(Security.off()).browser

    assert browser.post("/change", headers={"origin": "http://evil.example"}).status_code == 403
    assert browser.post("/change", headers={"origin": "http://test.example"}).status_code == 200


def test_a_site_that_is_named_may_change_something() -> None:
    served = page(allowed_origins=["https://friend.example"])
    headers = {"origin": "https://friend.example", "x-csrf-token": served.log_in()}

    assert served.browser.post("/change", headers=headers).status_code == 200


def test_a_socket_needs_a_login_and_takes_that_of_the_page() -> None:
    served = page()
    with pytest.raises(WebSocketDisconnect), served.connect():
        pytest.fail("it was opened")

    served.log_in()

    with served.connect(origin="http://test.example") as socket:
        assert socket.receive_text() == "token"


def test_a_logout_ends_the_session_wherever_its_cookie_still_is() -> None:
    served = page()
    csrf = served.log_in()
    kept = served.browser.cookies[COOKIE]

    served.browser.post("/logout", headers={"x-csrf-token": csrf})
    served.browser.cookies.set(COOKIE, kept)

    assert served.browser.get("/me").status_code == 401
    assert served.recorded[-1] == ("token", "logout", True)


def test_a_logout_is_known_to_all_processes_that_share_where_it_is_kept() -> None:
    shared = InMemoryStorageAdapter()
    options = {"secret_key": "k" * 32, "revocations": shared}
    one, other = page(**options), page(**options)
    csrf = one.log_in()
    kept = one.browser.cookies[COOKIE]
    other.browser.cookies.set(COOKIE, kept)
    assert other.browser.get("/me").json()["name"] == "token"

    one.browser.post("/logout", headers={"x-csrf-token": csrf})

    assert other.browser.get("/me").status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        {"users": {"ada": {"password": "another one", "role": "operator"}}},
        {"users": {"bob": {"password": HASH}}},
        {"token": "another-token"},
        {"secret_key": "l" * 32},
        {"session_seconds": 1e-6},
    ],
)
def test_a_session_ends_with_what_it_was_given_for(change: dict[str, Any]) -> None:
    options = {"secret_key": "k" * 32, "users": users()}
    expired = "session_seconds" in change
    before = page(**{**options, **(change if expired else {})})
    after = page(**{**options, **({} if expired else change)})
    given = {"name": "ada", "password": PASSWORD} if "users" in change else {"token": TOKEN}
    before.browser.post("/login", json=given)

    after.browser.cookies.set(COOKIE, before.browser.cookies.get(COOKIE) or "")

    assert after.browser.get("/me").status_code == 401


def test_a_role_that_is_taken_away_counts_at_once() -> None:
    before, after = (
        page(secret_key="k" * 32, users=users(role)) for role in (Role.OPERATOR, Role.VIEWER)
    )
    csrf = before.log_in(name="ada", password=PASSWORD)

    after.browser.cookies.set(COOKIE, before.browser.cookies[COOKIE])

    assert after.browser.get("/me").json()["role"] == "viewer"
    assert after.browser.post("/change", headers={"x-csrf-token": csrf}).status_code == 403


def _forged(value: str) -> list[str]:
    body, _, signature = value.partition(".")
    facts = json.loads(base64.urlsafe_b64decode(body))
    facts[1] = "root"
    other = base64.urlsafe_b64encode(json.dumps(facts).encode()).decode()
    return [f"{other}.{signature}", f"{body}.", f".{signature}", body, "☃", "a" * 20_000]


def test_a_cookie_that_was_changed_is_nobodys() -> None:
    served = page()
    served.log_in()

    for forged in _forged(served.browser.cookies[COOKIE]):
        headers = [(b"cookie", f"{COOKIE}={forged}".encode())]
        served.browser.cookies.clear()
        assert served.browser.get("/me", headers=headers).status_code == 401, forged[:40]


def test_the_cookie_is_for_the_place_where_the_app_is_mounted() -> None:
    served = Page(Security(token=TOKEN), path="/flow")

    answer = served.browser.post("/flow/login", json={"token": TOKEN})
    sent = served.browser.get("/flow/me", headers={"accept": "text/html", "cookie": ""})

    assert "Path=/flow;" in answer.headers["set-cookie"]
    assert sent.headers["location"] == "/flow/login?next=%2Fflow%2Fme"


# -- keys and tokens of programs


def test_an_api_key_has_its_role_and_a_wrong_one_none() -> None:
    browser = page(api_keys={KEY: {"role": "viewer", "name": "ci"}}).browser

    assert browser.get("/me", headers={"x-api-key": KEY}).json()["name"] == "ci"
    assert browser.post("/change", headers={"x-api-key": KEY}).status_code == 403
    for wrong in (KEY + "x", "", "\xe4", KEY[:-1]):
        raw = [(b"x-api-key", wrong.encode("latin-1"))]
        assert browser.get("/me", headers=raw).status_code == 401


@pytest.mark.parametrize("field_name", ["pipelines", "pipeline_whitelist"])
@pytest.mark.parametrize(
    ("globs", "seen"), [(["etl-*"], True), (["*"], True), (["other"], False), ([], False)]
)
async def test_a_key_sees_the_pipelines_that_its_globs_name_and_none_without(
    field_name: str, globs: list[str], seen: bool
) -> None:
    security = Security(api_keys={KEY: {"role": "viewer", field_name: globs}})
    scope = {"type": "http", "headers": [(b"x-api-key", KEY.encode())]}

    identity = await security.authenticate(scope)

    assert identity is not None
    assert identity.may_see("etl-7") is seen


def _claims(**changes: Any) -> dict[str, Any]:
    claims = {"sub": "bob", "role": "operator", "exp": int(time.time()) + 60, **changes}
    return {name: value for name, value in claims.items() if value is not None}


def _unsigned() -> str:
    def part(data: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(_claims())}."


BAD_TOKENS: dict[str, Callable[[], str]] = {
    "alg none": _unsigned,
    "another secret": lambda: pyjwt.encode(_claims(), "t" * 32),
    "another algorithm": lambda: pyjwt.encode(_claims(), SECRET * 2, algorithm="HS512"),
    "expired": lambda: pyjwt.encode(_claims(exp=int(time.time()) - 1), SECRET),
    "no exp": lambda: pyjwt.encode(_claims(exp=None), SECRET),
    "no sub": lambda: pyjwt.encode(_claims(sub=None), SECRET),
    "unknown role": lambda: pyjwt.encode(_claims(role="root"), SECRET),
    "strange role": lambda: pyjwt.encode(_claims(role={"a": 1}), SECRET),
    "strange pipelines": lambda: pyjwt.encode(_claims(pipelines="all"), SECRET),
    "no token": lambda: "no.token.this",
    "empty": lambda: "",
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_signed_token_is_refused_that_is(kind: str) -> None:
    browser = page(jwt=TokenAuthProvider(SECRET)).browser

    answer = browser.get("/me", headers={"authorization": f"Bearer {BAD_TOKENS[kind]()}"})

    assert answer.status_code == 401


def test_a_signed_token_says_who_and_with_which_role() -> None:
    provider = TokenAuthProvider(SECRET)
    served = page(jwt=provider)

    token = provider.create_token("bob", "operator", pipelines=["etl-*"])

    headers = {"authorization": f"Bearer {token}"}
    assert served.browser.get("/me", headers=headers).json()["name"] == "bob"
    assert served.browser.post("/change", headers=headers).status_code == 200
    assert provider.read(token).pipelines == ("etl-*",)


async def test_a_way_of_your_own_is_asked_first() -> None:
    async def identify(scope: Any) -> Identity | None:
        return (
            Identity("proxy-user", Role.VIEWER) if (b"x-user", b"1") in scope["headers"] else None
        )

    browser = Page(Security(identify=identify)).browser

    assert browser.get("/me", headers={"x-user": "1"}).json()["name"] == "proxy-user"
    assert browser.get("/me").status_code == 401


# -- settings


@pytest.mark.parametrize(
    "options",
    [
        {"token": "short"},
        {"secret_key": "short"},
        {"users": {"ada": {"role": "viewer"}}},
        {"users": {"ada": ""}},
        {"users": {"ada": "scrypt$x"}},
        {"users": {"ada": {"password": "x", "role": "root"}}},
        {"api_keys": {"short": "viewer"}},
        {"api_keys": {KEY: {"pipelines": "all"}}},
        {"login_rate": "often"},
        {"login_rate": "0/minute"},
    ],
)
def test_an_option_that_cannot_work_is_refused_at_the_start(options: dict[str, Any]) -> None:
    with pytest.raises(SecurityOptionError):
        Security(**options)


@pytest.mark.parametrize("algorithm", ["none", "RS256", "", "hs256"])
def test_tokens_are_signed_by_an_algorithm_that_holds(algorithm: str) -> None:
    with pytest.raises(SecurityOptionError):
        TokenAuthProvider(SECRET, algorithm=algorithm)
    with pytest.raises(SecurityOptionError):
        TokenAuthProvider("too short")


def test_the_settings_say_how_to_log_in() -> None:
    config = TaskiqFlowConfig(
        api_keys={KEY: {"role": "admin"}}, jwt_secret=SECRET, security_users={"ada": HASH}
    )

    security = Security.from_config(config)

    assert security.users
    assert security.api_keys
    assert security.jwt is not None
    assert security.token is None


@pytest.mark.parametrize("kind", ["password", "api_key", "jwt"])
def test_what_a_provider_needs_has_to_be_there(kind: str) -> None:
    with pytest.raises(SecurityOptionError, match="auth_provider"):
        Security.from_config(TaskiqFlowConfig(auth_provider=kind))


# -- limits, rules, https


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/minute", Rate(5, 60)),
        ("100 per 2 hours", Rate(100, 7200)),
        ("1/second", Rate(1, 1)),
        ("7/day", Rate(7, 86400)),
    ],
)
def test_a_rate_is_read_as_it_is_written(text: str, rate: Rate) -> None:
    assert Rate.read(text) == rate


def test_a_limit_refuses_what_is_too_much_and_lets_in_again_with_time() -> None:
    limiter = Limiter(Rate(2, 60))
    limiter.take("a", now=0)
    limiter.take("a", now=0)

    with pytest.raises(TooManyAttemptsError) as refused:
        limiter.take("a", now=0)

    assert refused.value.retry_after_seconds == pytest.approx(30)
    limiter.take("b", now=0)
    limiter.take("a", now=30)


VIEWER = Identity("vera", Role.VIEWER)
OPERATOR = Identity("olaf", Role.OPERATOR)


@pytest.mark.parametrize(
    "rules",
    [
        PipelineAuthorization({"operator": {"write": ["etl-*"]}, "viewer": {"read": ["etl-*"]}}),
        PipelineAuthorization(
            pipeline_acls={"etl-*": {"read": ["viewer"], "execute": ["olaf"]}},
        ),
    ],
)
def test_rules_say_who_may_do_what_with_which_pipeline(rules: PipelineAuthorization) -> None:
    assert rules.allows(OPERATOR, "execute", "etl-1")
    assert rules.allows(OPERATOR, "read", "etl-1")
    assert rules.allows(VIEWER, "read", "etl-1")
    assert not rules.allows(VIEWER, "write", "etl-1")
    assert not rules.allows(OPERATOR, "admin", "etl-1")
    assert not rules.allows(OPERATOR, "read", "billing")
    assert rules.allows(Identity("root", Role.ADMIN), "admin", "billing")
    assert not rules.allows(Identity("root", Role.ADMIN, ("etl-*",)), "read", "billing")


def test_without_rules_roles_decide() -> None:
    verify_pipeline_access(VIEWER, "etl")
    with pytest.raises(NotAllowedError):
        verify_pipeline_access(VIEWER, "etl", "execute")


@pytest.mark.parametrize("rules", [{"viewer": {"look": ["*"]}}])
def test_a_rule_about_nothing_that_can_be_done_is_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(SecurityOptionError, match="look"):
        PipelineAuthorization(rules)


async def _hello(request: Request) -> Response:
    return PlainTextResponse("hello")


def test_https_is_enforced_by_sending_pages_on_and_refusing_all_else() -> None:
    app = HTTPSEnforcement(Starlette(routes=[Route("/a", _hello, methods=["GET", "POST"])]))
    plain = TestClient(app, base_url="http://x.example", follow_redirects=False)
    safe = TestClient(app, base_url="https://x.example")

    assert plain.get("/a?b=1").headers["location"] == "https://x.example/a?b=1"
    assert plain.post("/a").status_code == 403
    assert safe.post("/a").text == "hello"


def test_a_page_that_requires_https_answers_nothing_else() -> None:
    served = page(require_https=True)

    assert served.browser.get("/login").status_code == 403
