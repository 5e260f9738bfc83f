"""However often a store that is away is asked, its outage is two lines in the log."""

import asyncio
import logging
import random
from typing import Any

import pytest

from taskiq_flow.engine.asking import ask
from taskiq_flow.engine.lease import Lease, LeaseKeeper, now_monotonic
from taskiq_flow.engine.outage import Outage
from taskiq_flow.exceptions import StorageUnavailableError, StoreUnavailableError
from taskiq_flow.model.records import Address, Grant
from taskiq_flow.stores.memory import MemoryRunStore


class AwayStore(MemoryRunStore):
    """Does not answer for as long as it is told so."""

    is_away = True

    async def renew(self, held: Any) -> Any:
        if self.is_away:
            raise StoreUnavailableError("redis://db", "no answer")
        return {}


def test_an_outage_is_said_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage(logging.getLogger("test"), "away: %s", "back")

    outage.end()
    for _ in range(2):
        for number in range(3):
            outage.begin(OSError(number))
        outage.end()
        outage.end()

    assert caplog.messages == ["away: 0", "back", "away: 0", "back"]


async def test_leases_that_cannot_be_renewed_are_no_flood_of_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = AwayStore()
    keeper = LeaseKeeper(store, 10.0)
    keeper.hold(lease())

    answered = [await keeper.renew_once(store) for _ in range(50)]
    store.is_away = False
    answered.append(await keeper.renew_once(store))

    assert answered == [False] * 50 + [True]
    away, back = caplog.messages
    assert "steps go on meanwhile" in away
    assert "What to do: check that it runs, and that this is its address." in away
    assert back == "Leases are renewed again."


async def test_a_call_that_waits_for_the_store_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries: list[int] = []

    async def call() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise StoreUnavailableError("redis://db", "no answer")
        return "answer"

    async with asyncio.timeout(20):
        assert await ask(call, random.Random(1)) == "answer"

    assert len(tries) == 3
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("error", [StoreUnavailableError, StorageUnavailableError])
@pytest.mark.parametrize(
    ("why", "fix"),
    [
        ("invalid username-password pair or user is disabled.", "check the name and the password"),
        ('password authentication failed for user "me"', "check the name and the password"),
        ('database "shop" does not exist', "create that database"),
        ("Connect call failed ('127.0.0.1', 6379)", "check that it runs"),
    ],
)
def test_what_helps_fits_what_a_server_said(
    error: type[StoreUnavailableError | StorageUnavailableError], why: str, fix: str
) -> None:
    assert f"({why})" in str(error("redis://db", why))
    assert f"What to do: {fix}" in str(error("redis://db", why))


def lease() -> Lease:
    grant = Grant(Address("run", 0, 0), "token", b"", (), 0, 0, 0.0, 0.0, 0.0, "")
    return Lease.taken(grant, now_monotonic(), asyncio.get_running_loop())
