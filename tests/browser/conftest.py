"""One browser, one server and one worker for all tests of the dashboard."""

import secrets
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.browser.house import TOKEN, House, browser, served
from tests.support.fixtures import address_of

# Of a module and not of the session: while Playwright is open, its loop runs in this thread, and
# no test that is a coroutine could run.


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[House]:
    name = f"test-{secrets.token_hex(6)}"
    with served(address_of("redis"), name, tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest.fixture(scope="module")
def signed_in(house: House, chromium: Browser) -> Iterator[BrowserContext]:
    """A browser that is signed in, 1440 pixels wide."""
    context = chromium.new_context(
        reduced_motion="reduce", viewport={"width": 1440, "height": 900}, base_url=house.address
    )
    context.set_default_timeout(8_000)
    page = context.new_page()
    page.goto(f"/?token={TOKEN}")
    page.close()
    yield context
    context.close()


@pytest.fixture
def page(signed_in: BrowserContext) -> Iterator[Page]:
    """A tab whose test fails when the page logs an error, breaks its policy or throws."""
    tab = signed_in.new_page()
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        # A test that cuts the line has this logged.
        if message.type == "error" and "net::ERR_FAILED" not in message.text:
            complaints.append(message.text)

    tab.on("console", hear)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: complaints.append(f"a dialog says {dialog.message}"))
    yield tab
    tab.close()
    assert not complaints
