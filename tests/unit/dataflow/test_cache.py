"""The data of one run, by name."""

import pytest

from taskiq_flow.dataflow import DataCache


def test_values_are_kept_by_name() -> None:
    cache = DataCache()
    cache.set("features", {"tempo": 120.0})
    cache.set("nothing", None)

    assert cache.get("features") == {"tempo": 120.0}
    assert cache.get("nothing") is None
    assert cache.keys == ["features", "nothing"]
    assert (cache.has("nothing"), cache.has("tags")) == (True, False)


def test_values_are_injected_as_keyword_arguments() -> None:
    cache = DataCache()
    cache.set("a", 1)
    cache.set("b", 2)

    assert cache.inject(["b", "a"]) == {"b": 2, "a": 1}


def test_a_value_that_was_not_set_is_an_error() -> None:
    cache = DataCache()

    with pytest.raises(KeyError, match="tags"):
        cache.get("tags")
    with pytest.raises(KeyError, match="tags"):
        cache.inject(["tags"])


def test_a_cleared_cache_is_empty() -> None:
    cache = DataCache()
    cache.set("a", 1)

    cache.clear()

    assert cache.keys == []
