"""The command line in this process, in a directory of its own; and what it leaves is put back."""

import json
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from taskiq_flow.cli.app import app
from taskiq_flow.engine.host import local_store

LOGS = ("taskiq", "taskiq_flow", "taskiq.receiver", "taskiq_flow.audit")


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Cli:
    """Runs commands in a directory, with a file of pipelines in it."""

    directory: Path
    module: str

    def __call__(self, *words: str, stdin: str | None = None) -> Said:
        done = CliRunner().invoke(app, words, input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Said(done.exit_code, done.stdout, done.stderr)

    def write(self, source: str) -> str:
        """Write the module of pipelines, and return its name."""
        (self.directory / f"{self.module}.py").write_text(source, encoding="utf-8")
        return self.module


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """The command line in a directory of its own, without settings from outside."""
    monkeypatch.chdir(tmp_path)
    environment, path, modules = dict(os.environ), list(sys.path), set(sys.modules)
    for name in environment:
        if name.startswith("TASKIQ_FLOW_"):
            del os.environ[name]
    os.environ["COLUMNS"] = "200"
    logs = {name: logging.getLogger(name) for name in LOGS}
    before = {name: (log.level, log.propagate, list(log.handlers)) for name, log in logs.items()}
    handler = signal.getsignal(signal.SIGINT)
    yield Cli(tmp_path, f"app_{secrets.token_hex(4)}")
    signal.signal(signal.SIGINT, handler)
    for name, log in logs.items():
        log.level, log.propagate, log.handlers[:] = before[name]
    del local_store[1:]
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("app_"):
            del sys.modules[name]
