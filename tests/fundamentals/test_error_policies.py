"""Stop, continue and retry mean the same wherever a step stands, on every store."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import DataflowPipeline, Pipeline, PipelineError
from taskiq_flow.conditions import greater_than

BROKEN = 2
"""The value for which the step fails; it succeeds for all others."""


class Tasks:
    """One step that fails so often, and what stands around it."""

    def __init__(self, broker: InMemoryBroker, failures: int) -> None:
        self.tries: Counter[int] = Counter()
        self.others = 0

        @broker.task
        def start(value: int) -> int:
            return value

        @broker.task
        def shaky(value: int) -> int:
            self.tries[value] += 1
            if value == BROKEN and self.tries[value] <= failures:
                raise ConnectionError(f"try {self.tries[value]}")
            return value * 10

        @broker.task
        def other(value: int) -> int:
            self.others += 1
            return value + 1

        @broker.task
        def show(value) -> str:
            return f"<{value}>"

        self.start, self.shaky, self.other, self.show = start, shaky, other, show


Say = Callable[[Any], Any]
"""Tells a pipeline what to do about errors, and returns it."""


def plain(broker: InMemoryBroker, tasks: Tasks, say: Say) -> Pipeline[Any]:
    return say(Pipeline(broker, tasks.start).call_next(tasks.shaky).call_next(tasks.show))


def in_a_map(broker: InMemoryBroker, tasks: Tasks, say: Say) -> Pipeline[Any]:
    return say(Pipeline(broker).map(tasks.shaky, [1, BROKEN, 3]).call_next(tasks.show))


def in_a_group(broker: InMemoryBroker, tasks: Tasks, say: Say) -> Pipeline[Any]:
    pipeline = Pipeline(broker, tasks.start).group([tasks.shaky, tasks.other])
    return say(pipeline.call_next(tasks.show))


def in_a_branch(broker: InMemoryBroker, tasks: Tasks, say: Say) -> Pipeline[Any]:
    pipeline = Pipeline(broker, tasks.start).condition(greater_than(0), tasks.shaky, tasks.other)
    return say(pipeline.call_next(tasks.show))


def in_a_sub_pipeline(broker: InMemoryBroker, tasks: Tasks, say: Say) -> Pipeline[Any]:
    inner = say(Pipeline(broker, tasks.shaky))
    return say(Pipeline(broker, tasks.start).call_next(inner).call_next(tasks.show))


def in_a_map_in_a_sub_pipeline(broker: InMemoryBroker, tasks: Tasks, say: Say) -> Pipeline[Any]:
    inner = say(Pipeline(broker).map(tasks.shaky))
    many = Pipeline(broker).map(tasks.start, [1, BROKEN, 3])
    return say(many.call_next(inner).call_next(tasks.show))


WENT_ON = {
    plain: "<None>",
    in_a_map: "<[10, None, 30]>",
    in_a_group: f"<[None, {BROKEN + 1}]>",
    in_a_branch: "<None>",
    in_a_sub_pipeline: "<None>",
    in_a_map_in_a_sub_pipeline: "<[10, None, 30]>",
}
SUCCEEDED = {
    plain: "<20>",
    in_a_map: "<[10, 20, 30]>",
    in_a_group: f"<[20, {BROKEN + 1}]>",
    in_a_branch: "<20>",
    in_a_sub_pipeline: "<20>",
    in_a_map_in_a_sub_pipeline: "<[10, 20, 30]>",
}
each_position = pytest.mark.parametrize(
    "position", list(WENT_ON), ids=lambda position: position.__name__
)


def arguments(position: Any) -> tuple[int, ...]:
    return () if "map" in position.__name__ else (BROKEN,)


@each_position
async def test_stop_fails_the_run(stored_broker: InMemoryBroker, position: Any) -> None:
    tasks = Tasks(stored_broker, failures=99)
    pipeline = position(stored_broker, tasks, lambda it: it.on_error("stop"))

    task = await pipeline.kiq(*arguments(position))

    with pytest.raises(PipelineError, match="try 1"):
        await task.wait_result(timeout=30)
    assert tasks.tries[BROKEN] == 1
    assert "show" not in task.partial_results


@each_position
async def test_continue_goes_on_without_it(stored_broker: InMemoryBroker, position: Any) -> None:
    tasks = Tasks(stored_broker, failures=99)
    pipeline = position(stored_broker, tasks, lambda it: it.on_error("continue"))

    task = await pipeline.kiq(*arguments(position))

    assert (await task.wait_result(timeout=30)).return_value == WENT_ON[position]
    assert tasks.tries[BROKEN] == 1


@each_position
async def test_retry_tries_again_and_nothing_else_runs_twice(
    stored_broker: InMemoryBroker, position: Any
) -> None:
    tasks = Tasks(stored_broker, failures=2)
    pipeline = position(
        stored_broker, tasks, lambda it: it.on_error("retry").with_retry(3, delay=0.01)
    )

    task = await pipeline.kiq(*arguments(position))

    assert (await task.wait_result(timeout=30)).return_value == SUCCEEDED[position]
    assert tasks.tries.pop(BROKEN) == 3
    assert set(tasks.tries.values()) <= {1}
    assert tasks.others <= 1


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("stop", None),
        ("continue", {"start": BROKEN, "other": BROKEN + 1}),
        ("retry", {"start": BROKEN, "shaky": 20, "other": BROKEN + 1, "show": "<20>"}),
    ],
)
async def test_a_policy_in_a_branch_of_a_graph(
    stored_broker: InMemoryBroker, policy: str, expected: dict[str, Any] | None
) -> None:
    tries = 0

    @stored_broker.task
    def start(value: int) -> int:
        return value

    @stored_broker.task
    def shaky(start: int) -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionError(f"try {tries}")
        return start * 10

    @stored_broker.task
    def other(start: int) -> int:
        return start + 1

    @stored_broker.task
    def show(shaky: int) -> str:
        return f"<{shaky}>"

    pipeline = DataflowPipeline(stored_broker, [start, shaky, other, show]).on_error(policy)
    if policy == "retry":
        pipeline.with_retry(3, delay=0.01)
    task = await pipeline.kiq(value=BROKEN)
    result = await task.wait_result(timeout=30, raise_on_error=False)

    if expected is None:
        assert result.is_err
        assert (await task.get_report()).failed[0].step == "shaky"
    else:
        found = {name: value for name, value in result.return_value.items() if value is not None}
        assert found == expected
