"""What the decorators note on a task, in whichever order they stand."""

from collections.abc import Callable
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.dataflow import (
    BaseTaskDecorator,
    CPUProfile,
    RAMProfile,
    get_pipeline_metadata,
    get_task_outputs,
    is_pipeline_task,
    pipeline_task,
    pipeline_task_multi_output,
    read_task,
)
from taskiq_flow.dataflow.caching import CachePolicy
from taskiq_flow.exceptions import InvalidTaskOptionError, NotATaskError

Orders = [
    lambda broker, note: lambda f: broker.task(note(f)),
    lambda broker, note: lambda f: note(broker.task(f)),
    lambda broker, note: note,
]


@pytest.mark.parametrize("order", Orders, ids=["below", "above", "without a broker"])
def test_a_declaration_is_found_in_either_order(order: Callable[..., Any]) -> None:
    def function(features: dict, scale: float = 1.0) -> list: ...

    task = order(InMemoryBroker(), pipeline_task(output="tags", retries=3))(function)

    assert is_pipeline_task(task)
    assert is_pipeline_task(function)
    assert get_task_outputs(task) == ["tags"]
    assert get_pipeline_metadata(task)["inputs"] == ["features"]
    assert get_pipeline_metadata(task)["retries"] == 3


def test_a_decorator_returns_the_task_itself() -> None:
    task = InMemoryBroker().task(lambda a: a)

    assert pipeline_task(output="x")(task) is task


def test_a_kicker_knows_the_declaration_of_its_task() -> None:
    @InMemoryBroker().task
    @pipeline_task(output="sum")
    def add(a: int): ...

    assert read_task(add.kicker().with_labels(queue="slow")).outputs == ("sum",)


def test_two_tasks_of_one_function_keep_their_own_declarations() -> None:
    broker = InMemoryBroker()

    def load(path: str): ...

    first = pipeline_task(output="first")(broker.task(task_name="one")(load))
    second = pipeline_task(output="second")(broker.task(task_name="two")(load))

    assert (get_task_outputs(first), get_task_outputs(second)) == (["first"], ["second"])


def test_without_a_name_the_output_has_that_of_the_function() -> None:
    @pipeline_task
    def bare(a): ...

    @pipeline_task(retries=1)
    def called(a): ...

    assert get_task_outputs(bare) == ["bare"]
    assert get_task_outputs(called) == ["called"]


@pytest.mark.parametrize("declare", [pipeline_task_multi_output, pipeline_task])
def test_several_outputs_keep_their_order(declare: Callable[..., Any]) -> None:
    by_name = declare(outputs={"data": dict, "stats": list})(lambda a: a)
    in_order = declare(outputs=["x", "y"], retries=1)(lambda a: a)

    assert get_task_outputs(by_name) == ["data", "stats"]
    assert read_task(by_name).output_types == {"data": dict, "stats": list}
    assert get_pipeline_metadata(in_order)["output"] == "x"
    assert get_pipeline_metadata(in_order)["multiple_outputs"] is True
    assert get_pipeline_metadata(in_order)["retries"] == 1


def test_one_name_in_a_list_is_still_taken_apart() -> None:
    assert read_task(pipeline_task(outputs=["only"])(lambda: 1)).multiple_outputs
    assert not read_task(pipeline_task(output="only")(lambda: 1)).multiple_outputs


def test_options_are_kept_and_have_the_documented_defaults() -> None:
    plain = get_pipeline_metadata(pipeline_task(output="x")(lambda: 1))
    said = get_pipeline_metadata(
        pipeline_task(
            output="x",
            retries=2,
            retry_delay=0.5,
            retry_backoff=3.0,
            retry_jitter=False,
            max_retry_time=60,
            resources={"gpu": 1},
            description="makes x",
            cache=600,
            timeout=30,
            retry_on=OSError,
            no_retry_on=[ValueError, KeyError],
        )(lambda: 1)
    )

    assert {k: plain[k] for k in ("retries", "retry_delay", "retry_backoff", "retry_jitter")} == {
        "retries": 0,
        "retry_delay": 1.0,
        "retry_backoff": 2.0,
        "retry_jitter": True,
    }
    assert plain["max_retry_time"] == 300
    assert plain["resources"] == {}
    assert said["retry_on"] == (OSError,)
    assert said["no_retry_on"] == (ValueError, KeyError)
    assert (said["cache"], said["timeout"], said["resources"]) == (
        CachePolicy(ttl=600),
        30,
        {"gpu": 1},
    )
    assert (said["description"], said["max_retry_time"]) == ("makes x", 60)


def test_no_retries_said_differs_from_zero_retries_said() -> None:
    """A pipeline's retry policy applies to the first and not to the second."""
    assert read_task(pipeline_task(output="x")(lambda: 1)).options.retries is None
    assert read_task(pipeline_task(output="x", retries=0)(lambda: 1)).options.retries == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cache": -1}, "Cache ttl must be positive, not -1"),
        ({"cache": "yes"}, "Cache must be True, seconds, or a CachePolicy, not 'yes'"),
        ({"limit": "api"}, "Limit must be made with limit"),
        ({"rate": "10 a day"}, 'Rate must be like "10/s"'),
        ({"output": "x", "retries": -1}, "Retries must be non-negative, not -1"),
        ({"output": "x", "retry_delay": -1}, "Retry_delay must be non-negative"),
        ({"output": "x", "retry_backoff": 0.5}, "Retry_backoff must be 1 or more"),
        ({"output": "x", "max_retry_time": 0}, "Max_retry_time must be positive"),
        ({"output": "x", "timeout": 0}, "Timeout must be positive"),
        ({"output": "x", "retry_on": ["OSError"]}, "Retry_on must be exception types"),
        ({"output": "x", "no_retry_on": [int]}, "No_retry_on must be exception types"),
        ({"output": ""}, "Output must be a non-empty name"),
        ({"output": "x", "outputs": ["y"]}, "Outputs must not be given beside output"),
        ({"outputs": []}, "Outputs must be a list of different"),
        ({"outputs": ["x", "x"]}, "Outputs must be a list of different"),
        ({"outputs": "xy"}, "Outputs must be a list of different"),
        ({"output": "x", "inputs": "ab"}, "Inputs must be a list of names"),
        ({"output": "x", "inputs": [1]}, "Inputs must be a list of names"),
        ({"output": "x", "inputs": {"a": ""}}, "Inputs must be a list of names"),
    ],
)
def test_an_option_that_cannot_work_is_refused_where_it_is_written(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidTaskOptionError, match=words) as caught:
        pipeline_task(**options)

    assert isinstance(caught.value, ValueError)


def test_a_list_that_changes_later_changes_no_declaration() -> None:
    names, mapping = ["a"], {"b": "c"}
    listed = pipeline_task(output="x", inputs=names)(lambda a: a)
    mapped = pipeline_task(output="y", inputs=mapping)(lambda b: b)

    names.append("z")
    mapping["b"] = "z"

    assert read_task(listed).inputs == ("a",)
    assert read_task(mapped).inputs == ("c",)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="retrys"):
        pipeline_task(output="x", retrys=3)  # type: ignore[call-overload]


@pytest.mark.parametrize("order", Orders, ids=["below", "above", "without a broker"])
def test_profiles_add_their_numbers_to_the_resources(order: Callable[..., Any]) -> None:
    def note(task: Any) -> Any:
        return CPUProfile(cpu_units=2)(
            pipeline_task(output="x", resources={"gpu": 1})(RAMProfile(ram_mb=512)(task))
        )

    task = order(InMemoryBroker(), note)(lambda a: a)

    assert read_task(task).options.resources == {"gpu": 1, "cpu_units": 2, "ram_mb": 512}


def test_a_profile_alone_does_not_make_a_pipeline_task() -> None:
    task = CPUProfile()(lambda a: a)

    assert not is_pipeline_task(task)
    assert read_task(task).options.resources == {"cpu_units": 1.0}


def test_a_profile_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidTaskOptionError, match="Ram_mb must be positive"):
        RAMProfile(ram_mb=0)(lambda a: a)


def test_own_decorators_may_be_built_on_the_base() -> None:
    class Owner(BaseTaskDecorator):
        def note(self, task: Any) -> None:
            task.owner = "data team"

    task = Owner()(lambda a: a)

    assert task.owner == "data team"


@pytest.mark.parametrize("value", [None, 3, "task", int])
def test_only_tasks_and_functions_are_decorated(value: Any) -> None:
    with pytest.raises(NotATaskError):
        pipeline_task(output="x")(value)
