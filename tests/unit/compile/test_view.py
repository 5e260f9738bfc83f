"""A plan is drawn with the names that its run shows."""

from taskiq_flow.compile import Policies, use_task
from taskiq_flow.compile.graph import GraphUse, MapOver, build_graph, compile_graph
from taskiq_flow.compile.view import plan_view
from taskiq_flow.plan import load_plan
from taskiq_flow.visualization import EdgeView, GraphView
from tests.unit.compile.tasks import ROUTING, add, extract, report, shorten, split


def view(statuses: dict[str, str] | None = None) -> GraphView:
    uses = [GraphUse(use_task(task)) for task in (extract, split, report)]
    uses.append(GraphUse(use_task(add), "sums", MapOver("features")))
    compiled = compile_graph(build_graph(uses), None, Policies(), ROUTING, name="Audio")
    return plan_view(load_plan(compiled.plan.stored), statuses)


def test_nodes_are_called_like_the_steps_of_a_run() -> None:
    picture = view()

    assert picture.title == "Audio"
    assert [node.id for node in picture.nodes] == ["features", "split", "report", "sums"]
    assert [node.detail for node in picture.nodes] == ["extract()", "", "", "add()"]
    assert [node.kind for node in picture.nodes] == ["task", "task", "task", "map"]


def test_nodes_show_what_they_take_and_give() -> None:
    by_id = {node.id: node for node in view().nodes}

    assert by_id["features"].inputs == ("tracks",)
    assert by_id["split"].outputs == ("low", "high")
    assert by_id["report"].inputs == ("low", "high")


def test_edges_are_labelled_with_the_data_that_go_along_them() -> None:
    assert set(view().edges) == {
        EdgeView("features", "split", "features"),
        EdgeView("features", "sums", "features"),
        EdgeView("split", "report", "low, high"),
    }


def test_only_what_is_taken_of_several_outputs_is_on_the_edge() -> None:
    uses = [GraphUse(use_task(split)), GraphUse(use_task(shorten))]
    compiled = compile_graph(build_graph(uses), None, Policies(), ROUTING)

    assert plan_view(compiled.plan).edges == (EdgeView("split", "shorten", "high"),)


def test_statuses_are_shown_where_they_are_known() -> None:
    by_id = {node.id: node for node in view({"split": "RUNNING"}).nodes}

    assert (by_id["split"].status, by_id["report"].status) == ("RUNNING", None)
