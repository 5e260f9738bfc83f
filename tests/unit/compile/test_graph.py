"""Graphs become plans in which each step takes its inputs by name."""

from collections.abc import Sequence
from typing import Any

import pytest

from taskiq_flow.compile import Compiled, OnError, Policies, Reduction, encode_items, use_task
from taskiq_flow.compile.graph import GraphUse, MapOver, ReduceOver, build_graph, compile_graph
from taskiq_flow.dataflow import DataflowRegistry
from taskiq_flow.exceptions import BadArgumentsError, CycleError, DuplicateOutputError
from taskiq_flow.model.records import OnFailure, StepKind
from taskiq_flow.plan import Const, DictOf, Item, Source, load_plan
from tests.unit.compile.tasks import (
    ROUTING,
    add,
    broker,
    extract,
    join,
    nothing,
    report,
    split,
    total,
)


def graph(
    uses: Sequence[GraphUse],
    given: Sequence[str] | None = None,
    *,
    result: str | None = None,
    on_error: OnError = OnError.STOP,
) -> Compiled:
    policies = Policies(on_error=on_error)
    return compile_graph(build_graph(uses), given, policies, ROUTING, result=result)


def uses(*tasks: Any) -> list[GraphUse]:
    return [GraphUse(use_task(task)) for task in tasks]


def step(compiled: Compiled, name: str) -> Any:
    return next(s for s in compiled.plan.steps if s.name == name)


def test_a_parameter_takes_the_output_that_has_its_name() -> None:
    compiled = graph(uses(report, split, extract))

    assert [s.name for s in compiled.plan.steps] == ["features", "split", "report"]
    assert dict(step(compiled, "split").kwargs) == {"features": Source(0)}
    assert dict(step(compiled, "features").kwargs) == {"tracks": Source(-1)}
    assert compiled.plan.inputs == ("tracks",)


def test_several_outputs_are_parts_of_one_value() -> None:
    compiled = graph(uses(report, split, extract))

    assert step(compiled, "split").options == {"outputs": ["low", "high"]}
    assert dict(step(compiled, "report").kwargs) == {
        "low": Source(1, "low"),
        "high": Source(1, "high"),
    }


def test_a_run_returns_all_outputs_in_plan_order() -> None:
    compiled = graph(uses(report, split, extract))

    assert isinstance(compiled.plan.result, DictOf)
    names = [name for name, _ in compiled.plan.result.parts]
    assert names == ["features", "low", "high", "report"]
    assert compiled.returns.__annotations__ == {
        "features": list[str],
        "low": Any,
        "high": Any,
        "report": str,
    }


def test_an_optional_input_is_passed_only_when_it_is_given() -> None:
    without = graph(uses(report), ["low", "high"])
    with_it = graph(uses(report), ["low", "high", "title"])

    assert dict(step(without, "report").kwargs).keys() == {"low", "high"}
    assert dict(step(with_it, "report").kwargs)["title"] == Source(-3)
    assert with_it.plan.inputs == ("low", "high", "title")


def test_parts_that_are_not_connected_run_side_by_side() -> None:
    compiled = graph(uses(extract, nothing))

    assert [s.after for s in compiled.plan.steps] == [(), ()]


def test_what_is_bound_to_a_task_is_no_input_of_the_graph() -> None:
    compiled = graph([GraphUse(use_task(join, (), {"right": "!"}))])

    assert compiled.plan.inputs == ("left",)
    assert dict(step(compiled, "join").kwargs)["right"] == Const('"!"')


def test_the_items_of_a_map_alone_are_stored_one_by_one() -> None:
    compiled = graph([GraphUse(use_task(add), "sums", MapOver("numbers", max_parallel=4))])
    mapped = step(compiled, "sums")

    assert mapped.kind is StepKind.MAP
    assert (mapped.map.items, mapped.map.max_parallel) == (None, 4)
    assert compiled.plan.inputs == ()
    assert compiled.encode([[1, 2]]).items == {0: [b"=1", b"=2"]}


def test_an_input_that_others_take_too_is_stored_whole() -> None:
    compiled = graph(
        [GraphUse(use_task(add), "sums", MapOver("values")), GraphUse(use_task(total))]
    )

    assert step(compiled, "sums").map.items == Source(-1)
    assert dict(step(compiled, "total").kwargs) == {"values": Source(-1)}


def test_a_map_runs_over_an_output_and_takes_other_data_by_name() -> None:
    compiled = graph(
        [*uses(extract), GraphUse(use_task(join), "pairs", MapOver("features"))],
        ["tracks", "right"],
    )
    mapped = step(compiled, "pairs")

    assert mapped.map.items == Source(0)
    assert dict(mapped.kwargs) == {"left": Item(), "right": Source(-2)}
    assert compiled.returns.__annotations__["pairs"] == list[str]


def test_a_map_may_name_the_parameter_of_its_items() -> None:
    use = use_task(join, param_name="right")
    compiled = graph([GraphUse(use, "pairs", MapOver("words"))])

    assert dict(step(compiled, "pairs").kwargs) == {"left": Source(-1), "right": Item()}


def test_items_may_be_given_with_the_map() -> None:
    items = encode_items("add", [1, 2])
    compiled = graph([GraphUse(use_task(add), "sums", MapOver(items))])

    assert compiled.encode([]).items == {0: items}


def test_a_sweep_spreads_its_items_over_the_parameters() -> None:
    over = MapOver.sweep("add", {"x": [1, 2], "y": [3]})
    compiled = graph([GraphUse(use_task(add), "sums", over)])
    swept = step(compiled, "sums")

    assert swept.options == {"spread": ["x", "y"]}
    assert swept.kwargs == ()
    assert compiled.encode([]).items == {0: [b'={"x":1,"y":3}', b'={"x":2,"y":3}']}


def test_a_reduction_takes_the_whole_list() -> None:
    compiled = graph(
        [
            GraphUse(use_task(add), "sums", MapOver("numbers")),
            GraphUse(use_task(total), "sum", ReduceOver("sums")),
        ]
    )

    assert dict(step(compiled, "sum").kwargs) == {"values": Source(0)}


def test_other_inputs_of_a_reduction_come_by_name() -> None:
    over = ReduceOver("sums", Reduction(chunk_size=2, length=4))
    compiled = graph([GraphUse(use_task(total), "sum", over)], ["sums", "scale"])

    for name in ("sum.level1", "sum"):
        assert dict(step(compiled, name).kwargs)["scale"] == Source(-2)


def test_the_length_of_given_items_bounds_the_tree() -> None:
    items = encode_items("add", range(8))
    over = ReduceOver("sums", Reduction(chunk_size=2))
    compiled = graph(
        [GraphUse(use_task(add), "sums", MapOver(items)), GraphUse(use_task(total), "sum", over)]
    )

    names = [s.name for s in compiled.plan.steps]
    assert names == [
        "sums",
        "sum.chunks1",
        "sum.level1",
        "sum.chunks2",
        "sum.level2",
        "sum",
    ]


def test_the_length_of_a_map_that_leaves_items_out_is_not_known() -> None:
    over = MapOver(encode_items("add", range(2)), skip_errors=True)
    reduced = GraphUse(use_task(total), "sum", ReduceOver("sums", Reduction(chunk_size=2)))
    compiled = graph([GraphUse(use_task(add), "sums", over), reduced])

    assert len(compiled.plan.steps) > 20


def test_a_map_of_a_task_with_several_outputs_gives_one_list() -> None:
    compiled = graph([GraphUse(use_task(split), over=MapOver("items"))])

    assert compiled.plan.result == DictOf((("split", Source(0)),))
    assert compiled.plan.outputs == (("split", Source(0)),)
    assert step(compiled, "split").options == {}


def test_one_output_can_be_the_result() -> None:
    compiled = graph(uses(extract, split), result="high")

    assert compiled.plan.result == Source(1, "high")


def test_a_graph_that_continues_skips_what_needs_a_failed_step() -> None:
    compiled = graph(uses(extract), on_error=OnError.CONTINUE)

    assert compiled.plan.steps[0].on_failure is OnFailure.SKIP
    assert compiled.returns.__annotations__["features"] == list[str] | None


def test_two_writers_of_one_name_are_refused() -> None:
    with pytest.raises(DuplicateOutputError, match="features"):
        build_graph(uses(extract, extract))


def test_tasks_that_need_each_other_are_refused() -> None:
    @broker.task
    def chicken(egg: int) -> int: ...

    @broker.task
    def egg(chicken: int) -> int: ...

    with pytest.raises(CycleError, match="chicken"):
        build_graph(uses(chicken, egg))


def test_a_map_of_a_task_without_parameters_is_refused() -> None:
    with pytest.raises(BadArgumentsError, match="no free parameter for the items"):
        build_graph([GraphUse(use_task(nothing), "n", MapOver("numbers"))])


def test_a_graph_that_no_pipeline_made_is_compiled_with_its_uses() -> None:
    registry = DataflowRegistry()
    registry.register_task(extract, output="raw", inputs=[])
    registry.register_task(total, output="sum", inputs=["raw"])
    dag = registry.build_dag()
    compiled = compile_graph(
        dag, None, Policies(), ROUTING, uses={n: use_task(n.task) for n in dag.nodes}
    )

    assert [s.name for s in compiled.plan.steps] == ["raw", "sum"]
    assert compiled.plan.inputs == ("tracks",)


def test_an_edge_without_data_is_waited_for() -> None:
    registry = DataflowRegistry()
    registry.register_task(extract)
    registry.register_task(nothing, output="n")
    dag = registry.build_dag()
    dag.add_edge(extract, nothing)
    compiled = compile_graph(
        dag, None, Policies(), ROUTING, uses={n: use_task(n.task) for n in dag.nodes}
    )

    assert step(compiled, "n").after == (0,)


def test_a_compiled_graph_survives_being_stored() -> None:
    compiled = graph(
        [
            *uses(extract, split, report),
            GraphUse(use_task(add), "sums", MapOver("numbers", skip_errors=True)),
            GraphUse(use_task(total), "sum", ReduceOver("sums", Reduction(10))),
        ]
    )

    assert load_plan(compiled.plan.stored) == compiled.plan
