"""Questions about tasks and what they declare."""

import gc

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.dataflow import (
    get_all_pipeline_outputs,
    get_pipeline_metadata,
    get_task_by_output,
    get_task_inputs,
    get_task_outputs,
    is_pipeline_task,
    pipeline_task,
    pipeline_task_multi_output,
    resolve_task_dependencies,
    validate_pipeline_outputs,
)
from taskiq_flow.exceptions import DuplicateOutputError


@pipeline_task(output="features")
def extract(data): ...


@pipeline_task(output="tags")
def tag(features, limit=3): ...


@pipeline_task_multi_output(outputs={"report": dict, "log": list})
def report(tags, features=None): ...


def undecorated(tags): ...


def test_outputs_and_inputs_are_listed() -> None:
    assert get_task_outputs(report) == ["report", "log"]
    assert get_task_inputs(report) == ["tags"]
    assert get_task_inputs(undecorated) == ["tags"]


def test_a_task_without_a_declaration_declares_nothing() -> None:
    assert not is_pipeline_task(undecorated)
    assert get_task_outputs(undecorated) == []
    assert get_pipeline_metadata(undecorated) == {}


def test_dependencies_are_the_inputs_that_another_task_writes() -> None:
    assert resolve_task_dependencies([report, tag, extract]) == {
        report: ["tags", "features"],
        tag: ["features"],
        extract: [],
    }


def test_an_optional_input_of_its_own_output_is_no_dependency() -> None:
    def total(items, total=0): ...

    task = pipeline_task(total)

    assert resolve_task_dependencies([task]) == {task: []}


def test_a_task_is_found_by_any_of_its_outputs() -> None:
    tasks = [extract, tag, report]

    assert get_all_pipeline_outputs(tasks) == {
        "features": extract,
        "tags": tag,
        "report": report,
        "log": report,
    }
    assert get_task_by_output("log", tasks) is report
    assert get_task_by_output("nothing", tasks) is None


def test_without_a_list_every_living_task_is_looked_at() -> None:
    task = InMemoryBroker().task(pipeline_task(output="found without a list")(lambda a: a))

    assert get_task_by_output("found without a list") is task.original_func
    assert "found without a list" in get_all_pipeline_outputs()


def test_a_task_that_is_gone_leaves_nothing_behind() -> None:
    task = pipeline_task(output="soon gone")(lambda a: a)
    assert get_task_by_output("soon gone") is task

    del task
    gc.collect()

    assert get_task_by_output("soon gone") is None


def test_validation_looks_at_its_argument_only() -> None:
    twin = pipeline_task(output="tags")(lambda a: a)

    validate_pipeline_outputs([extract, tag, report])
    with pytest.raises(DuplicateOutputError, match="Duplicate output name 'tags'") as caught:
        validate_pipeline_outputs([tag, twin])

    assert (caught.value.output, caught.value.first) == ("tags", "tag")
