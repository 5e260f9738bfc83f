"""Kinds of pictures can be added, and replaced."""

from collections.abc import Iterator

import pytest

from taskiq_flow import visualize_pipeline
from taskiq_flow.exceptions import UnknownPictureError
from taskiq_flow.visualization import (
    GraphView,
    NodeView,
    RendererRegistry,
    get_renderer_registry,
    set_renderer_registry,
)

GRAPH = GraphView("One", (NodeView("a", "a"), NodeView("b", "b")))


@pytest.fixture
def registry() -> Iterator[RendererRegistry]:
    registry = RendererRegistry()
    set_renderer_registry(registry)
    yield registry
    set_renderer_registry(None)


def test_a_renderer_of_ones_own_draws_its_kind(registry: RendererRegistry) -> None:
    registry.register_renderer("names", lambda view: [node.id for node in view.nodes])

    assert visualize_pipeline(GRAPH, "names") == ["a", "b"]
    assert visualize_pipeline(GRAPH)["title"] == "One"


def test_a_registry_is_used_until_it_is_taken_back(registry: RendererRegistry) -> None:
    registry.register_renderer("json", lambda view: "mine")
    assert visualize_pipeline(GRAPH, "json") == "mine"

    set_renderer_registry(None)

    assert get_renderer_registry() is not registry
    assert visualize_pipeline(GRAPH)["title"] == "One"


def test_an_unknown_kind_names_those_that_were_added(registry: RendererRegistry) -> None:
    registry.register_renderer("names", str)

    with pytest.raises(UnknownPictureError, match="svg, names"):
        visualize_pipeline(GRAPH, "nowhere")
