"""Chains become plans in which each step takes what the one before it gave."""

from typing import Any

import pytest

from taskiq_flow.compile import (
    After,
    Compiled,
    Group,
    Map,
    Next,
    OnError,
    Policies,
    Shape,
    compile_chain,
    encode_items,
    use_task,
)
from taskiq_flow.compile.chain import Link
from taskiq_flow.exceptions import BadArgumentsError, BadItemsError, EmptyPipelineError
from taskiq_flow.model.records import OnFailure, StepKind
from taskiq_flow.plan import Const, Item, ListOf, MapMode, Source, load_plan
from tests.unit.compile.tasks import (
    ROUTING,
    add,
    asks_by_name,
    extract,
    gather,
    nothing,
    stream,
    takes_all,
    total,
    watched,
)

SILENT = Policies()
ONE_VALUE = Shape(1)


def chain(*links: Link, shape: Shape | None = ONE_VALUE, policies: Policies = SILENT) -> Compiled:
    return compile_chain(links, shape, policies, ROUTING)


def kwargs(compiled: Compiled, step: int) -> dict[str, Any]:
    return dict(compiled.plan.steps[step].kwargs)


def test_each_step_takes_the_value_of_the_one_before_it() -> None:
    compiled = chain(Next(use_task(add)), Next(use_task(add)), Next(use_task(add)))

    assert kwargs(compiled, 0) == {"x": Source(-1)}
    assert kwargs(compiled, 1) == {"x": Source(0)}
    assert [step.after for step in compiled.plan.steps] == [(), (0,), (1,)]
    assert compiled.plan.result == Source(2)
    assert compiled.plan.inputs == ("x",)


def test_the_second_use_of_a_task_has_a_number_in_its_name() -> None:
    compiled = chain(Next(use_task(add)), Next(use_task(add)), Next(use_task(add)))

    assert [step.name for step in compiled.plan.steps] == ["add", "add#2", "add#3"]


def test_a_declared_output_names_the_step() -> None:
    compiled = chain(Next(use_task(extract)))

    assert compiled.plan.steps[0].name == "features"
    assert compiled.plan.outputs == (("features", Source(0)),)


def test_bound_arguments_come_after_the_previous_value() -> None:
    compiled = chain(Next(use_task(nothing)), Next(use_task(add, (5,))), shape=Shape())

    assert kwargs(compiled, 1) == {"x": Source(0), "y": Const("5")}


def test_the_previous_value_goes_to_the_parameter_that_is_named() -> None:
    use = use_task(add, (5,), param_name="y")

    assert kwargs(chain(Next(use_task(nothing)), Next(use), shape=Shape()), 1) == {
        "y": Source(0),
        "x": Const("5"),
    }


def test_a_start_overrides_by_name_what_was_bound() -> None:
    compiled = chain(Next(use_task(add, (), {"y": 5})), shape=Shape(1, ("y",)))

    assert kwargs(compiled, 0) == {"x": Source(-1), "y": Source(-2)}
    assert compiled.plan.inputs == ("x", "y")


def test_arguments_beyond_the_named_parameters_go_by_position() -> None:
    compiled = chain(Next(use_task(gather, (7,), {"more": 8})), shape=Shape(2))

    assert compiled.plan.steps[0].args == (Source(-1), Source(-2), Const("7"))
    assert kwargs(compiled, 0) == {"more": Const("8")}


def test_parameters_that_others_fill_are_left_to_them() -> None:
    compiled = chain(Next(use_task(watched)))

    assert kwargs(compiled, 0) == {"x": Source(-1)}
    assert compiled.plan.steps[0].context == ("context",)


def test_a_parameter_named_context_is_filled_only_when_that_is_turned_on() -> None:
    link = Next(use_task(asks_by_name))

    with pytest.raises(BadArgumentsError, match="turn on with_context"):
        chain(link)
    assert chain(link, policies=Policies(context_by_name=True)).plan.steps[0].context == (
        "context",
    )


def test_a_step_beside_the_flow_lets_the_value_pass() -> None:
    compiled = chain(Next(use_task(add)), After(use_task(nothing)), Next(use_task(add)))

    assert kwargs(compiled, 1) == {}
    assert kwargs(compiled, 2) == {"x": Source(0)}
    assert compiled.plan.steps[2].after == (0, 1)


def test_a_step_beside_the_flow_may_replace_the_value() -> None:
    compiled = chain(Next(use_task(add)), After(use_task(nothing), replace=True))

    assert compiled.plan.result == Source(1)


def test_a_first_step_beside_the_flow_is_where_the_flow_begins() -> None:
    compiled = chain(After(use_task(add)), Next(use_task(add)))

    assert kwargs(compiled, 0) == {"x": Source(-1)}
    assert kwargs(compiled, 1) == {"x": Source(0)}


def test_a_map_runs_over_the_previous_value() -> None:
    compiled = chain(Next(use_task(stream)), Map(use_task(add), max_parallel=3, skip_errors=True))
    step = compiled.plan.steps[1]

    assert step.kind is StepKind.MAP
    assert step.map is not None
    assert (step.map.items, step.map.max_parallel, step.map.skip_errors) == (Source(0), 3, True)
    assert kwargs(compiled, 1) == {"x": Item()}


def test_a_map_that_begins_a_chain_takes_its_items_from_the_start() -> None:
    compiled = chain(Map(use_task(add)), shape=Shape(2))
    started = compiled.encode([[1, 2], 10])

    assert compiled.plan.steps[0].map is not None
    assert compiled.plan.steps[0].map.items is None
    assert kwargs(compiled, 0) == {"x": Item(), "y": Source(-1)}
    assert started.items == {0: [b"=1", b"=2"]}
    assert started.inputs == [b"10"]


def test_items_given_with_the_map_are_encoded_once() -> None:
    link = Map(use_task(add), encode_items("add", [1, 2]))

    assert chain(link, shape=Shape()).encode([]).items == {0: [b"=1", b"=2"]}


@pytest.mark.parametrize("items", ["text", b"bytes", {"a": 1}, 5, None])
def test_what_has_no_items_cannot_be_mapped_over(items: object) -> None:
    with pytest.raises(BadItemsError, match="'add'"):
        chain(Map(use_task(add))).encode([items])


def test_a_filter_says_so_in_its_plan() -> None:
    step = chain(Map(use_task(add), mode=MapMode.FILTER)).plan.steps[0]

    assert step.map is not None
    assert step.map.mode is MapMode.FILTER


def test_a_group_gives_the_list_of_its_results_in_order() -> None:
    compiled = chain(
        Next(use_task(add)), Group((use_task(add), use_task(add))), Next(use_task(total))
    )

    assert [step.after for step in compiled.plan.steps] == [(), (0,), (0,), (1, 2)]
    assert kwargs(compiled, 3) == {"values": ListOf((Source(1), Source(2)))}


def test_a_group_that_begins_a_chain_gives_the_start_to_all_of_its_tasks() -> None:
    compiled = chain(Group((use_task(add), use_task(total))))

    assert kwargs(compiled, 0) == {"x": Source(-1)}
    assert kwargs(compiled, 1) == {"values": Source(-1)}
    assert len(compiled.slots) == 1


def test_a_map_over_a_group_is_given_one_list() -> None:
    compiled = chain(Next(use_task(add)), Group((use_task(add), use_task(add))), Map(use_task(add)))
    collect, mapped = compiled.plan.steps[3:]

    assert collect.builtin == "collect"
    assert collect.args == (Source(1), Source(2))
    assert mapped.map is not None
    assert mapped.map.items == Source(3)
    assert mapped.after == (3,)
    assert "collect" not in dict(compiled.plan.outputs)


def test_a_chain_that_continues_passes_none_on() -> None:
    compiled = chain(Next(use_task(add)), policies=Policies(on_error=OnError.CONTINUE))

    assert compiled.plan.steps[0].on_failure is OnFailure.PASS
    assert compiled.returns == int | None


def test_none_stands_for_a_failed_item_unless_it_is_left_out() -> None:
    policies = Policies(on_error=OnError.CONTINUE)

    assert chain(Map(use_task(add)), policies=policies).returns == list[int | None]
    assert chain(Map(use_task(add), skip_errors=True), policies=policies).returns == list[int]


@pytest.mark.parametrize(
    ("links", "returns"),
    [
        ([Next(use_task(add))], int),
        ([Next(use_task(stream))], list[int]),
        ([Map(use_task(add))], list[int]),
        ([Next(use_task(stream)), Map(use_task(add), mode=MapMode.FILTER)], list[int]),
        ([Group((use_task(add), use_task(nothing, (), {})))], None),
        ([Next(use_task(add)), Group((use_task(add), use_task(add)))], list[int]),
        ([Next(use_task(add)), Group((use_task(add), use_task(gather)))], list),
        ([Next(use_task(add)), After(use_task(total, ([],)))], int),
    ],
)
def test_the_type_of_a_run_follows_from_its_last_value(links: list[Link], returns: Any) -> None:
    if returns is None:
        with pytest.raises(BadArgumentsError):
            chain(*links)
    else:
        assert chain(*links).returns == returns


@pytest.mark.parametrize(
    ("links", "shape", "why"),
    [
        ([Next(use_task(add))], Shape(), "'x' received no value; pass x= to kiq"),
        ([Next(use_task(add))], Shape(3), "2 free parameters but is given 3"),
        ([Next(use_task(add))], Shape(1, ("z",)), "no parameter 'z'"),
        ([Next(use_task(nothing))], Shape(1), "0 free parameters but is given 1"),
        ([Next(use_task(add)), Next(use_task(nothing))], Shape(1), "use call_after"),
        ([Next(use_task(add)), After(use_task(add))], Shape(1), "'x' received no value; bind"),
        ([Next(use_task(watched, (), {"context": 1}))], Shape(1), "no parameter 'context'"),
        ([Next(use_task(watched, (), {"request": 1}))], Shape(1), "no parameter 'request'"),
        ([Next(use_task(takes_all, (), {"context": 1}))], Shape(), "no parameter 'context'"),
        ([Map(use_task(add))], Shape(), "items to map over are missing"),
        ([Next(use_task(add, param_name="q"))], Shape(1), "no parameter 'q'"),
        ([Next(use_task(add, (), {"y": 1}, param_name="y"))], Shape(1), "'y' is bound already"),
    ],
)
def test_a_misfit_names_the_step_the_parameter_and_the_fix(
    links: list[Link], shape: Shape, why: str
) -> None:
    with pytest.raises(BadArgumentsError, match=why) as caught:
        chain(*links, shape=shape)
    assert repr(caught.value.step) in str(caught.value)


def test_an_empty_chain_is_refused() -> None:
    with pytest.raises(EmptyPipelineError):
        chain()


def test_a_picture_needs_no_arguments() -> None:
    compiled = chain(Group((use_task(add), use_task(total))), Next(use_task(total)), shape=None)

    assert compiled.plan.inputs == ("x", "values")


def test_a_picture_of_a_map_shows_what_else_it_takes() -> None:
    assert chain(Map(use_task(total)), shape=None).plan.inputs == ()
    assert chain(Map(use_task(add, param_name="y")), shape=None).plan.inputs == ("x",)


def test_steps_are_routed_by_their_labels() -> None:
    kicker = add.kicker().with_labels(queue_name="slow")
    policies = Policies(labels={"queue_name": "fast", "team": "blue"})
    compiled = chain(Next(use_task(add)), Next(use_task(kicker)), policies=policies)

    assert [step.queue for step in compiled.plan.steps] == ["q:fast", "q:slow"]
    assert compiled.plan.steps[1].labels == {"queue_name": "slow", "team": "blue"}


def test_the_engines_own_steps_go_where_their_task_goes() -> None:
    kicker = add.kicker().with_labels(queue_name="slow")
    group = Group((use_task(add), use_task(add)))
    compiled = chain(Next(use_task(add)), group, Map(use_task(kicker)))

    assert compiled.plan.steps[3].queue == "q:slow"


def test_a_long_chain_has_as_many_steps_and_unique_names() -> None:
    compiled = chain(*[Next(use_task(add))] * 2000)

    assert len({step.name for step in compiled.plan.steps}) == 2000


def test_a_compiled_chain_survives_being_stored() -> None:
    compiled = chain(
        Next(use_task(add, (5,))),
        Group((use_task(add), use_task(watched))),
        Map(use_task(add), skip_errors=True),
        After(use_task(nothing)),
        policies=Policies(on_error=OnError.RETRY, labels={"a": 1}),
    )

    assert load_plan(compiled.plan.stored) == compiled.plan
