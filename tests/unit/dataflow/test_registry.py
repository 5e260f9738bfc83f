"""Registered tasks, and who writes and reads what."""

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.dataflow import DataflowRegistry, pipeline_task
from taskiq_flow.exceptions import (
    CycleError,
    DuplicateOutputError,
    NotATaskError,
    TaskNotFoundError,
)

broker = InMemoryBroker()


@broker.task
@pipeline_task(output="raw_data")
def load_data(source: str): ...


@pipeline_task(output="cleaned_data")
@broker.task
def clean_data(raw_data: dict, strict: bool = False): ...


@broker.task
@pipeline_task(output="report")
def make_report(cleaned_data: dict, raw_data: dict): ...


@pytest.fixture
def registry() -> DataflowRegistry:
    registry = DataflowRegistry()
    registry.register_task(load_data, output="raw_data", inputs=["source"])
    registry.register_task(clean_data, output="cleaned_data", inputs=["raw_data"], owner="me")
    registry.register_task(make_report, output="report", inputs=["cleaned_data", "raw_data"])
    return registry


def test_a_new_registry_is_empty() -> None:
    registry = DataflowRegistry()

    assert registry.tasks == registry.get_outputs() == registry.get_external_inputs() == []
    assert registry.data_nodes == {}


def test_tasks_and_data_are_listed_in_the_order_of_registration(
    registry: DataflowRegistry,
) -> None:
    assert registry.get_tasks() == registry.tasks == [load_data, clean_data, make_report]
    assert registry.get_outputs() == ["raw_data", "cleaned_data", "report"]
    assert registry.get_external_inputs() == ["source"]


def test_who_writes_and_who_reads_a_datum(registry: DataflowRegistry) -> None:
    assert registry.get_producer("report") is make_report
    assert registry.get_producer("source") is None
    assert registry.get_producer("nothing") is None
    assert registry.get_consumers("raw_data") == [clean_data, make_report]
    assert registry.get_consumers("strict") == [clean_data]
    assert registry.get_consumers("report") == []
    assert registry.data_producers["raw_data"] is load_data


def test_every_datum_has_a_node(registry: DataflowRegistry) -> None:
    nodes = registry.data_nodes

    assert nodes["raw_data"].consumers == (clean_data, make_report)
    assert not nodes["raw_data"].is_external
    assert nodes["source"].is_external
    assert nodes["source"].name == "source"


def test_a_task_says_what_it_depends_on(registry: DataflowRegistry) -> None:
    assert registry.get_data_dependencies(make_report) == ["cleaned_data", "raw_data"]
    metadata = registry.get_task_metadata(clean_data)
    assert (metadata["output"], metadata["inputs"]) == ("cleaned_data", ["raw_data"])
    assert metadata["owner"] == "me"


def test_a_task_that_is_not_registered_is_not_found(registry: DataflowRegistry) -> None:
    stranger = broker.task(lambda a: a)

    with pytest.raises(TaskNotFoundError):
        registry.get_task_metadata(stranger)
    with pytest.raises(TaskNotFoundError):
        registry.get_data_dependencies(stranger)


def test_a_task_can_be_registered_by_what_its_decorator_says() -> None:
    registry = DataflowRegistry()

    registry.register_task_from_object(clean_data)

    assert registry.get_outputs() == ["cleaned_data"]
    assert registry.get_external_inputs() == ["raw_data"]


def test_several_outputs_are_each_written_by_the_task() -> None:
    registry = DataflowRegistry()
    registry.register_task(lambda x: x, outputs=["left", "right"])
    registry.register_task(make_report, inputs={"cleaned_data": "left", "raw_data": "right"})

    (edge,) = registry.build_dag().edges

    assert edge[0].outputs == ["left", "right"]
    assert registry.get_external_inputs() == ["x"]


def test_a_second_writer_is_refused_and_the_first_stays(registry: DataflowRegistry) -> None:
    with pytest.raises(DuplicateOutputError, match="'load_data' and 'clean_data' both write"):
        registry.register_task(clean_data, output="raw_data")

    assert registry.get_producer("raw_data") is load_data
    assert len(registry.tasks) == 3


def test_one_task_may_be_used_twice_under_two_names() -> None:
    registry = DataflowRegistry()
    registry.register_task(clean_data, output="first", inputs={"raw_data": "a"})
    registry.register_task(clean_data, output="second", inputs={"raw_data": "b"})

    assert registry.get_external_inputs() == ["a", "b"]
    assert registry.get_data_dependencies(clean_data) == ["a"]
    assert [n.name for n in registry.build_dag().nodes] == ["clean_data", "clean_data#2"]


def test_an_input_that_nobody_writes_is_external() -> None:
    registry = DataflowRegistry()
    registry.register_task(make_report)

    dag = registry.build_dag()

    assert dag.external_inputs == ["cleaned_data", "raw_data"]


def test_each_build_is_a_graph_of_its_own(registry: DataflowRegistry) -> None:
    first = registry.build_dag()
    registry.register_task(lambda report: report, output="sent")
    second = registry.build_dag()

    assert (len(first), len(second)) == (3, 4)
    assert first.get_node("report").dependents == []


def test_a_cycle_is_found_when_the_graph_is_built() -> None:
    registry = DataflowRegistry()
    registry.register_task(load_data, output="a", inputs={"source": "b"})
    registry.register_task(clean_data, output="b", inputs={"raw_data": "a"})

    with pytest.raises(CycleError, match="load_data → clean_data → load_data"):
        registry.build_dag()


def test_two_registries_share_nothing(registry: DataflowRegistry) -> None:
    assert DataflowRegistry().get_outputs() == []


def test_a_bare_context_parameter_is_left_to_the_context_when_asked_for() -> None:
    def step(data, context): ...

    off, on = DataflowRegistry(), DataflowRegistry(context_by_name=True)
    off.register_task(step)
    on.register_task(step)

    assert off.get_external_inputs() == ["data", "context"]
    assert on.get_external_inputs() == ["data"]
    assert on.build_dag().nodes[0].info.context_parameters == ("context",)


def test_what_is_no_task_is_refused() -> None:
    with pytest.raises(NotATaskError, match="'load'"):
        DataflowRegistry().register_task("load")
