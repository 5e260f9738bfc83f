"""Which parameters of a task the graph fills."""

import functools
from typing import Annotated, Any

import pytest
from taskiq import Context, InMemoryBroker, TaskiqDepends
from taskiq.brokers.shared_broker import async_shared_broker

from taskiq_flow.dataflow.signature import (
    MISSING,
    function_name,
    read_signature,
    task_function,
    task_name,
)
from taskiq_flow.exceptions import NotATaskError
from tests.unit.dataflow import text_annotations

PipelineContext = type("PipelineContext", (), {"__module__": "taskiq_flow.context"})


def inputs_of(function: Any, **options: Any) -> list[str]:
    return [p.name for p in read_signature(function, **options).inputs]


def test_every_named_parameter_is_an_input_in_order() -> None:
    def task(a: int, b: str = "x", *args: Any, c: float, **more: Any) -> bytes: ...

    signature = read_signature(task)

    assert inputs_of(task) == ["a", "b", "c"]
    assert [p.is_required for p in signature.inputs] == [True, False, True]
    assert signature.takes_keywords
    assert signature.returns is bytes


def test_a_parameter_says_its_annotation_and_default() -> None:
    def task(bare, full: int = 3): ...

    bare, full = read_signature(task).inputs

    assert (bare.annotation, bare.default) == (MISSING, MISSING)
    assert (full.annotation, full.default) == (int, 3)


def test_none_as_a_default_makes_a_parameter_optional() -> None:
    def task(config: dict | None = None): ...

    assert not read_signature(task).inputs[0].is_required


@pytest.mark.parametrize("first", ["self", "cls"])
def test_the_receiver_of_a_method_is_no_input(first: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"def method({first}, a): ...", scope)

    assert inputs_of(scope["method"]) == ["a"]


def test_a_later_parameter_named_self_is_an_input() -> None:
    def task(a, self): ...

    assert inputs_of(task) == ["a", "self"]


def test_a_positional_only_parameter_is_marked() -> None:
    def task(a, /, b): ...

    assert [p.positional_only for p in read_signature(task).inputs] == [True, False]


def test_taskiq_fills_its_own_parameters() -> None:
    def dependency() -> int: ...

    def task(
        a: int,
        context: Context,
        by_default: Context = TaskiqDepends(),  # noqa: B008
        other: int = TaskiqDepends(dependency),
        *,
        annotated: Annotated[int, TaskiqDepends(dependency)],
    ): ...

    assert inputs_of(task) == ["a"]
    assert read_signature(task).context == ()


def test_another_class_named_context_is_an_input() -> None:
    class Context: ...

    def task(context: Context): ...

    assert inputs_of(task) == ["context"]


@pytest.mark.parametrize(
    "annotation",
    [
        PipelineContext,
        PipelineContext | None,
        Annotated[PipelineContext, "note"],
        "PipelineContext",
        "flow.PipelineContext | None",
        type("Own", (PipelineContext,), {}),
    ],
)
def test_the_pipeline_context_is_no_input(annotation: Any) -> None:
    def task(a, ctx): ...

    task.__annotations__["ctx"] = annotation

    signature = read_signature(task)

    assert [p.name for p in signature.inputs] == ["a"]
    assert signature.context == ("ctx",)


def test_a_bare_parameter_named_context_is_the_context_only_when_asked_for() -> None:
    def bare(a, context): ...

    def annotated(a, context: dict): ...

    def with_default(a, context=None): ...

    assert inputs_of(bare) == ["a", "context"]
    assert inputs_of(bare, context_by_name=True) == ["a"]
    assert inputs_of(annotated, context_by_name=True) == ["a", "context"]
    assert inputs_of(with_default, context_by_name=True) == ["a", "context"]


def test_annotations_written_as_text_are_resolved() -> None:
    signature = read_signature(text_annotations.resolvable)

    assert [(p.name, p.annotation) for p in signature.inputs] == [("a", list[int])]
    assert signature.returns is str


def test_one_annotation_that_cannot_be_resolved_does_not_spoil_the_others() -> None:
    signature = read_signature(text_annotations.half_resolvable)

    assert [(p.name, p.annotation) for p in signature.inputs] == [
        ("known", int),
        ("unknown", "OnlyForTheTypeChecker"),
        ("broken", "'not a type ['"),
    ]
    assert signature.context == ("context",)
    assert signature.returns is bytes


def test_partials_and_callable_objects_are_read() -> None:
    class Callable:
        def __call__(self, a: int, b: int = 2) -> str: ...

    def task(a: int, b: int) -> bytes: ...

    assert inputs_of(Callable()) == ["a", "b"]
    assert read_signature(Callable()).returns is str
    assert not read_signature(functools.partial(task, b=1)).inputs[1].is_required
    assert read_signature(functools.partial(task, b=1)).returns is bytes
    assert function_name(functools.partial(task, b=1)) == "task"
    assert function_name(Callable()) == "Callable"


def test_a_wrapped_function_is_read_through_its_wrapper() -> None:
    def task(a: int): ...

    @functools.wraps(task)
    def wrapper(*args: Any, **kwargs: Any): ...

    assert inputs_of(wrapper) == ["a"]


def test_tasks_kickers_and_shared_tasks_lead_to_their_function() -> None:
    broker = InMemoryBroker()

    def add(a: int): ...

    def share(a: int): ...

    task = broker.task(task_name="sums.add")(add)
    shared = async_shared_broker.task(task_name="sums.share")(share)
    kicker = task.kicker().with_labels(priority=3)

    assert task_function(task) is add
    assert task_function(kicker) is add
    assert task_function(shared) is share
    assert [function_name(t) for t in (task, kicker, shared, add)] == ["add", "add", "share", "add"]
    assert [task_name(t) for t in (task, kicker, shared)] == ["sums.add", "sums.add", "sums.share"]


def test_a_kicker_of_an_unknown_task_has_a_name_but_no_function() -> None:
    kicker = InMemoryBroker().task(task_name="elsewhere:add")(lambda a: a).kicker()
    kicker.task_name = "elsewhere:gone"

    assert task_function(kicker) is None
    assert function_name(kicker) == "gone"


@pytest.mark.parametrize("value", [None, 3, "task", object(), int])
def test_what_is_no_task_is_refused_by_name(value: object) -> None:
    with pytest.raises(NotATaskError, match="is not a Taskiq task"):
        task_function(value)
