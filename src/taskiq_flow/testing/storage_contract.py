"""The contract of a storage adapter, as a class of tests that an adapter's own class inherits."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from taskiq_flow.exceptions import ConfigurationError
from taskiq_flow.storage import BaseStorageAdapter, escape_pattern

ODD_KEYS = [
    *(
        "*",
        "?",
        "[a]",
        "[!a]",
        "%",
        "_",
        "a%b_c",
        "a*b?c",
        "\\",
        "\\*",
        "a\\",
        "[a",
        "]",
        "[",
        "[]]",
    ),
    *("'; DROP TABLE x; --", '"quoted"', " ", " a ", "a\nb", "a\x00b", "\x00", "../../etc/passwd"),
    *("a/b|c:d", "ä€𝄞", "A", "a", "\ud800", "\udc80x", "e\u0301", "é", "^$.+(){}", "a-z", "[^a]"),
]

VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        2**70,
        1.5,
        -0.0,
        math.inf,
        -math.inf,
        Decimal("1.10"),
        UUID(int=7),
    ),
    *("", "a\x00b", "\ud800", "ä€𝄞", "%s_%", "*", b"", b"\x00\xff", (1, 2), {1, 2}, [], {}, [None]),
    *({"": None}, {"$bytes": "not base64"}, {1: "one", (2, 3): [4]}, [[["deep"]]]),
    *(timedelta(days=-1, microseconds=1), datetime(2026, 3, 1, 12, tzinfo=UTC)),
]

BAD_TTLS: list[Any] = [0, -1, -0.5, math.nan, math.inf, -math.inf, 1e300, True, "60", [], 10**400]


class StorageAdapterContract:
    """Every promise of `BaseStorageAdapter`.

    Inherit it under a name that pytest collects, and give it one asynchronous fixture that yields
    an empty adapter without a default time to live::

        class TestMyAdapter(StorageAdapterContract):
            @pytest.fixture
            async def adapter(self):
                async with MyAdapter() as adapter:
                    yield adapter

    The tests need pytest and pytest-asyncio in its auto mode.
    """

    short_ttl_seconds: float = 0.05
    """The shortest time to live that the adapter knows."""

    max_key_bytes: int = 1024
    """The longest key that the adapter takes."""

    async def test_what_was_set_is_read_and_removed(self, adapter: BaseStorageAdapter) -> None:
        assert await adapter.get("a") is None
        assert not await adapter.exists("a")

        await adapter.set("a", {"phase": "running"})

        assert await adapter.get("a") == {"phase": "running"}
        assert await adapter.exists("a")
        assert await adapter.delete("a") is True
        assert await adapter.get("a") is None
        assert await adapter.delete("a") is False

    async def test_a_value_comes_back_as_what_it_was(self, adapter: BaseStorageAdapter) -> None:
        for value in VALUES:
            await adapter.set("a", value)

            found = await adapter.get("a")

            assert (type(found), repr(found)) == (type(value), repr(value))
        await adapter.set("a", math.nan)
        found = await adapter.get("a")
        assert found != found

    async def test_none_is_a_value(self, adapter: BaseStorageAdapter) -> None:
        await adapter.set("a", None)

        assert await adapter.exists("a")
        assert await adapter.keys() == ["a"]
        assert await adapter.delete("a")

    async def test_many_values_are_read_at_once(self, adapter: BaseStorageAdapter) -> None:
        names = ["a%", "a\0", "ä", *(f"key {number}" for number in range(1200))]
        there = [*names[:4], *names[-2:]]
        for name in there:
            await adapter.set(name, {"of": name})

        found = await adapter.get_many(names)

        assert found == {name: {"of": name} for name in there}
        assert await adapter.get_many([]) == {}

    async def test_a_stored_value_is_a_copy(self, adapter: BaseStorageAdapter) -> None:
        value = {"list": [1]}
        await adapter.set("a", value)
        value["list"].append(2)

        found: Any = await adapter.get("a")
        found["list"].append(3)

        assert await adapter.get("a") == {"list": [1]}

    async def test_a_value_of_ten_megabytes_is_kept(self, adapter: BaseStorageAdapter) -> None:
        big = "0123456789" * 1_000_000

        await adapter.set("a", big)

        assert await adapter.get("a") == big

    async def test_a_value_without_a_stored_form_is_refused(
        self, adapter: BaseStorageAdapter
    ) -> None:
        await adapter.set("a", "before")

        for value in (object(), [object()], lambda: None):
            await refused(lambda value=value: adapter.set("a", value))

        assert await adapter.get("a") == "before"

    async def test_a_key_is_any_text_and_matches_only_itself(
        self, adapter: BaseStorageAdapter
    ) -> None:
        keys = [*ODD_KEYS, "[" * self.max_key_bytes]
        for number, key in enumerate(keys):
            await adapter.set(key, number)

        assert await adapter.keys("*") == sorted(keys)
        for number, key in enumerate(keys):
            assert await adapter.get(key) == number
            assert await adapter.keys(escape_pattern(key)) == [key]
            assert await adapter.delete(key)
        assert await adapter.keys() == []

    async def test_a_key_that_no_database_takes_is_refused(
        self, adapter: BaseStorageAdapter
    ) -> None:
        too_long = "x" * (self.max_key_bytes + 1)
        bad: list[Any] = ["", too_long, "€" * (self.max_key_bytes // 3 + 1), b"bytes", 1, None]
        for key in bad:
            for call in (adapter.get, adapter.delete, adapter.exists):
                await refused(lambda call=call, key=key: call(key))
            await refused(lambda key=key: adapter.set(key, 1))
            await refused(lambda key=key: adapter.replace(key, 1, 2))
        for pattern in ("", b"*", None):
            await refused(lambda pattern=pattern: adapter.keys(cast(Any, pattern)))
        assert await adapter.keys() == []

    async def test_patterns_are_globs(self, adapter: BaseStorageAdapter) -> None:
        names = ["run:1:a", "run:2:a", "run:2:b", "Run:1:a", "run%1", "run_1", "ran:1"]
        for key in names:
            await adapter.set(key, 1)

        for pattern, matching in {
            "run:2:*": {"run:2:a", "run:2:b"},
            "*:a": {"run:1:a", "run:2:a", "Run:1:a"},
            "r?n:1*": {"run:1:a", "ran:1"},
            "run:[!2]:a": {"run:1:a"},
            "run:[12]:a": {"run:1:a", "run:2:a"},
            "run%*": {"run%1"},
            "run_1": {"run_1"},
            "run": set[str](),
            "[": set[str](),
        }.items():
            assert await adapter.keys(pattern) == sorted(matching), pattern

    async def test_a_value_is_gone_when_its_time_is_over(self, adapter: BaseStorageAdapter) -> None:
        await adapter.set("short", 1, ttl_seconds=self.short_ttl_seconds)
        await adapter.set("long", 2, ttl_seconds=3600)
        await adapter.set("ever", 3)

        await gone(adapter, "short", self.short_ttl_seconds)

        assert await adapter.get("short") is None
        assert await adapter.keys() == ["ever", "long"]
        assert await adapter.delete("short") is False
        assert await adapter.replace("short", 1, 2) is False
        assert await adapter.cleanup() in (0, 1)
        assert await adapter.keys() == ["ever", "long"]
        assert await adapter.cleanup() == 0

    async def test_a_value_that_never_expires_survives_every_cleanup(
        self, adapter: BaseStorageAdapter
    ) -> None:
        await adapter.set("a", 1)

        assert await adapter.cleanup(ttl_seconds=0) == 0
        assert await adapter.get("a") == 1

    async def test_a_new_value_has_a_new_time_to_live(self, adapter: BaseStorageAdapter) -> None:
        await adapter.set("a", 1, ttl_seconds=self.short_ttl_seconds)
        await adapter.set("a", 2)
        await adapter.set("witness", 1, ttl_seconds=self.short_ttl_seconds)

        await gone(adapter, "witness", self.short_ttl_seconds)

        assert await adapter.get("a") == 2

    async def test_a_time_to_live_that_makes_no_sense_is_refused(
        self, adapter: BaseStorageAdapter
    ) -> None:
        await adapter.set("a", "before")

        for ttl in BAD_TTLS:
            await refused(lambda ttl=ttl: adapter.set("a", 1, ttl_seconds=ttl))

        assert await adapter.get("a") == "before"
        await adapter.set("a", 1, ttl_seconds=100 * 365 * 24 * 3600)
        assert await adapter.get("a") == 1

    async def test_only_the_expected_value_is_replaced(self, adapter: BaseStorageAdapter) -> None:
        assert await adapter.replace("a", None, 1) is False
        await adapter.set("a", [1])

        assert await adapter.replace("a", [2], [3]) is False
        assert await adapter.get("a") == [1]
        assert await adapter.replace("a", [1], [2]) is True
        assert await adapter.get("a") == [2]

    async def test_a_value_is_added_only_where_there_is_none(
        self, adapter: BaseStorageAdapter
    ) -> None:
        assert await adapter.add("a", None) is True
        assert await adapter.add("a", 2, ttl_seconds=self.short_ttl_seconds) is False
        assert await adapter.add("short", 1, ttl_seconds=self.short_ttl_seconds) is True

        await gone(adapter, "short", self.short_ttl_seconds)

        assert await adapter.add("short", 2) is True
        assert await adapter.get("short") == 2
        assert await adapter.get("a") is None
        assert await adapter.keys() == ["a", "short"]

    async def test_many_at_once_do_not_disturb_each_other(
        self, adapter: BaseStorageAdapter
    ) -> None:
        """Writers of one new key and of many, as several processes would be."""
        await asyncio.gather(
            *(adapter.set("same", number) for number in range(20)),
            *(adapter.set(f"own-{number}", number) for number in range(20)),
        )

        assert await adapter.get("same") in range(20)
        assert [await adapter.get(f"own-{number}") for number in range(20)] == list(range(20))
        gone_ones = await asyncio.gather(*(adapter.delete("same") for _ in range(5)))
        assert sorted(gone_ones) == [False, False, False, False, True]


async def refused(call: Callable[[], Awaitable[object]]) -> None:
    """Expect a clear error."""
    message = ""
    try:
        await call()
    except ConfigurationError as error:
        message = str(error)
    assert message, "this was to be refused"
    assert message.endswith("."), "an error is a sentence"


async def gone(adapter: BaseStorageAdapter, key: str, ttl_seconds: float) -> None:
    """Wait until a value has expired, which is not before its time."""
    latest = time.monotonic() + ttl_seconds + 10
    while await adapter.exists(key):
        assert time.monotonic() < latest, f"{key!r} did not expire"
        await asyncio.sleep(0.01)
