"""Pipelines that the command line runs on workers."""

from typing import Any

from taskiq_flow import Pipeline
from tests.integration.apps.plain import broker


def _task(name: str) -> Any:
    return broker.find_task(name)


squares = Pipeline(broker).with_name("squares").call_next(_task("numbers")).map(_task("square"))
failing = Pipeline(broker).with_name("failing").call_next(_task("add")).call_next(_task("fails"))
waiting = Pipeline(broker).with_name("waiting").wait_for("go").call_next(_task("add"))
