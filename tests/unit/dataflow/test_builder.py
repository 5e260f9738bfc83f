"""Shortcuts from tasks to a graph."""

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.dataflow import DAGBuilder, DataflowRegistry, pipeline_task
from taskiq_flow.exceptions import CycleError, EmptyGraphError, InputConflictError

broker = InMemoryBroker()


@broker.task
@pipeline_task(output="raw")
def load(path: str): ...


@pipeline_task(output="clean")
@broker.task
def process(raw: str): ...


@broker.task
@pipeline_task(output="saved")
def save(clean: str, raw: str, compress: bool = False): ...


def test_tasks_are_linked_whatever_their_order() -> None:
    dag = DAGBuilder.from_tasks([save, process, load], external_inputs=["path"])

    assert [n.name for n in dag.topological_sort()] == ["load", "process", "save"]
    assert dag.external_inputs == ["path"]


def test_an_external_input_that_a_task_writes_is_a_conflict() -> None:
    with pytest.raises(InputConflictError, match="'raw' conflicts with task output: 'load'"):
        DAGBuilder.from_tasks([load, process], external_inputs=["raw"])


def test_a_graph_is_built_task_by_task_or_in_one_chain() -> None:
    builder = DAGBuilder()
    builder.add_task(load, output="a", inputs=[])
    builder.add_task(process, output="b", inputs=["a"])
    builder.add_task(save, output="c", inputs=["a", "b"], owner="me")

    chained = (
        DAGBuilder()
        .node(load, output="a", inputs=[])
        .node(process, output="b", inputs=["a"])
        .node(save, output="c", inputs=["a", "b"])
        .build()
    )

    assert repr(builder.build().edges) == repr(chained.edges)
    assert builder.build().get_node("c").metadata == {"owner": "me"}
    assert [[n.output for n in level] for level in chained.levels] == [["a"], ["b"], ["c"]]


def test_an_empty_builder_builds_nothing() -> None:
    with pytest.raises(EmptyGraphError):
        DAGBuilder().build()


def test_plain_functions_make_a_graph_too() -> None:
    @pipeline_task(output="a")
    def first(): ...

    @pipeline_task(output="b", inputs=["a"])
    async def second(a): ...

    dag = DAGBuilder.from_callable_tasks([first, second])

    DAGBuilder.validate_dag(dag)
    assert len(dag.edges) == 1


def test_a_graph_with_a_cycle_is_not_built() -> None:
    @pipeline_task(output="raw")
    def unload(saved): ...

    with pytest.raises(CycleError):
        DAGBuilder.from_tasks([unload, process, save])


def test_missing_data_are_listed_by_task() -> None:
    registry = DataflowRegistry()
    registry.register_task(load)

    without = DAGBuilder.analyze_missing_dependencies([process, save])
    with_registry = DAGBuilder.analyze_missing_dependencies([process, save], registry)

    assert without == {process.task_name: ["raw"], save.task_name: ["raw"]}
    assert with_registry == {}
