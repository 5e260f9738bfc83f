"""The broker under its name in the quickstart is the one of taskiq-redis."""

import importlib
import sys

import pytest
import taskiq_redis

from taskiq_flow import broker as quickstart
from taskiq_flow.engine.host import store_url_of
from taskiq_flow.exceptions import MissingExtraError

ADDRESS = "redis://example.invalid:6380/3"


def test_the_address_has_two_names() -> None:
    named = quickstart.RedisStreamBroker(redis_url=ADDRESS, queue_name="steps")
    plain = quickstart.RedisStreamBroker(ADDRESS)

    assert isinstance(named, taskiq_redis.RedisStreamBroker)
    assert named.queue_name == "steps"
    assert store_url_of(named) == store_url_of(plain) == ADDRESS
    with pytest.raises(TypeError, match="needs an address"):
        quickstart.RedisStreamBroker()


def test_without_taskiq_redis_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "taskiq_redis", None)
    monkeypatch.delitem(sys.modules, "taskiq_flow.broker")

    with pytest.raises(MissingExtraError, match=r"pip install 'taskiq-flow\[redis\]'"):
        importlib.import_module("taskiq_flow.broker")
