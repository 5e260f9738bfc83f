"""The benchmark runs, on every store, and what it runs gives right results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from benchmarks.report import PAGE
from tests.support.tree import ROOT
from tools.servers import variable

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(600)]

Cells = list[dict[str, Any]]

SHAPES = ("chain", "map")
"""Those that differ most; every cell is a process, and takes its time to start."""


def quick(tmp_path: Path, *only: str, redis: str = "", postgres: str = "") -> tuple[str, Cells]:
    """Make a quick run of some shapes and stores; its tables, and its cells."""
    found = tmp_path / "cells.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick"),
            *("--json", str(found), "--only", *only),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            variable("redis"): redis,
            variable("postgres"): postgres,
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(found.read_text())


def test_shapes_are_compared_without_a_server(tmp_path: Path) -> None:
    page = PAGE.read_bytes()

    tables, cells = quick(tmp_path, *SHAPES, "memory", "sqlite")

    assert all(cell["ok"] and cell["seconds"] > 0 for cell in cells)
    compared = {(cell["shape"], cell["store"], cell["side"]) for cell in cells}
    for shape in SHAPES:
        assert (shape, "memory", "plain") in compared
        assert (shape, "sqlite", "flow") in compared
    assert "| chain of 20 steps | SQLite |" in tables
    assert PAGE.read_bytes() == page, "a quick run is nothing for the documentation"


@pytest.mark.skipif(
    os.environ.get("TASKIQ_FLOW_CHAOS") != "long", reason="`make chaos` runs it: many processes"
)
def test_redis_and_postgres_are_compared_with_plain_taskiq_on_redis_and_nothing_stays(
    tmp_path: Path, redis_url: str, postgres_url: str
) -> None:
    _, cells = quick(tmp_path, "chain", "redis", "postgres", redis=redis_url, postgres=postgres_url)

    assert [(cell["store"], cell["side"], cell["ok"]) for cell in cells] == [
        ("redis", "plain", True),
        ("redis", "flow", True),
        ("postgres", "flow", True),
    ]
    plain, on_redis, on_postgres = (cell["sent_per_step"] for cell in cells)
    assert plain >= 5, "send, take, store the result, ask for it, read it"
    assert 1 <= on_redis < plain
    assert on_postgres >= 1
    with Redis.from_url(redis_url) as client:
        assert list(client.scan_iter("*benchmark-*")) == []
