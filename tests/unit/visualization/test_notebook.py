"""A graph or a pipeline that is the last line of a notebook's cell is drawn there."""

from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import DAGBuilder, DataflowPipeline, Pipeline

broker = InMemoryBroker()


@broker.task
def load(path: str) -> list[str]:
    return [path]


@broker.task
def count(load: list[str]) -> int:
    return len(load)


SHOWN = {
    "a chain": Pipeline(broker, load).call_next(count),
    "a graph": DataflowPipeline(broker, [load, count]),
    "a dag": DAGBuilder.from_tasks([load, count]),
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_a_notebook_gets_the_same_graph_in_each_form(shown: Any) -> None:
    bundle = shown._repr_mimebundle_()

    assert set(bundle) == {"text/plain", "text/vnd.mermaid", "image/svg+xml", "text/html"}
    assert bundle["text/html"].startswith("<svg")
    assert shown._repr_html_() == bundle["text/html"]
    assert bundle["text/vnd.mermaid"].startswith("flowchart")
    assert all("load" in picture and "count" in picture for picture in bundle.values())


def test_a_notebook_may_ask_for_some_forms_only() -> None:
    shown = SHOWN["a dag"]

    assert set(shown._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}
    assert "text/html" not in shown._repr_mimebundle_(exclude={"text/html"})


def test_what_cannot_be_drawn_yet_says_why_instead_of_raising() -> None:
    empty = DataflowPipeline(broker)

    assert "No DAG built" in empty._repr_mimebundle_()["text/plain"]
    assert empty._repr_html_() is None
