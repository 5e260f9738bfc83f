"""Fails a run of tests that has left something on the shared Redis without a reason to stay."""

from __future__ import annotations

import os
from typing import Any

import pytest
from redis.exceptions import RedisError

from tests.support.leftovers import namespace_of, redis_leftovers, redis_namespaces
from tools.servers import variable

SHOWN = 20

_before = pytest.StashKey[set[str]]()
_found = pytest.StashKey[list[str]]()
_tests = pytest.StashKey[dict[str, str]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note what belongs to others: a server may be somebody's own."""
    session.config.stash[_tests] = {}
    url = os.environ.get(variable("redis"))
    if url is not None and not hasattr(session.config, "workerinput"):
        session.config.stash[_before] = redis_namespaces(url)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Note which test used which namespace, so that a leftover can be told from whom it is."""
    arguments: dict[str, Any] = getattr(item, "funcargs", {})
    for name, value in arguments.items():
        used = value if name == "namespace" else getattr(value, "options", None)
        namespace = used if isinstance(used, str) else getattr(used, "namespace", None)
        if isinstance(namespace, str):
            item.config.stash[_tests].setdefault(namespace, item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker of pytest-xdist has noted."""
    told: dict[str, Any] = getattr(node, "workeroutput", {})
    node.config.stash[_tests].update(told.get("namespaces", {}))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look once, when every worker has ended."""
    config = session.config
    output: dict[str, Any] | None = getattr(config, "workeroutput", None)
    if output is not None:
        output["namespaces"] = config.stash[_tests]
    if _before not in config.stash:
        return
    try:
        found = redis_leftovers(os.environ[variable("redis")])
    except RedisError as error:
        found = [f"(nobody could look: {error})"]
    others = config.stash[_before]
    config.stash[_found] = [key for key in found if namespace_of(key) not in others]
    if config.stash[_found] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    found = config.stash.get(_found, [])
    if found:
        terminalreporter.section(f"{len(found)} keys were left without a time to live", red=True)
        for key in found[:SHOWN]:
            test = config.stash[_tests].get(namespace_of(key), "a test that is not known")
            terminalreporter.line(f"{key!r} of {test}")
        terminalreporter.line("Give them a time to live, or tests/support/leftovers.py a reason.")
