"""Tasks and kickers are taken as steps with what is bound to them at that moment."""

import pytest
from taskiq import AsyncTaskiqDecoratedTask
from taskiq.kicker import AsyncKicker

from taskiq_flow.compile import Policies, Shape, compile_chain, use_task
from taskiq_flow.compile.chain import Next
from taskiq_flow.exceptions import NotATaskError, UnserializableValueError
from taskiq_flow.plan import Const, Source
from tests.unit.compile.tasks import ROUTING, add, broker, extract


def plain(x: int) -> int: ...


@pytest.mark.parametrize("value", [plain, print, "add", None, 3, AsyncTaskiqDecoratedTask])
def test_what_is_no_task_is_refused(value: object) -> None:
    with pytest.raises(NotATaskError):
        use_task(value)


def test_a_kicker_keeps_what_is_declared_on_its_task() -> None:
    use = use_task(extract.kicker().with_labels(queue="slow"))

    assert use.labels["queue"] == "slow"
    assert use.read().outputs == ("features",)


def test_a_kicker_of_a_task_that_this_process_has_not_takes_what_comes() -> None:
    use = use_task(AsyncKicker("elsewhere:work", broker, {}), (5,), {"k": 1})
    step = compile_chain([Next(use)], Shape(1), Policies(), ROUTING).plan.steps[0]

    assert (step.name, step.task) == ("work", "elsewhere:work")
    assert step.args == (Source(-1), Const("5"))
    assert step.kwargs == (("k", Const("1")),)


def test_what_happens_to_an_argument_later_changes_nothing() -> None:
    values = [1]
    use = use_task(add, (values,))
    values.append(2)

    assert use.args == (Const("[1]"),)


def test_an_argument_that_cannot_be_stored_is_named_with_its_step() -> None:
    with pytest.raises(UnserializableValueError, match="argument 'y' of step 'add'"):
        use_task(add, (), {"y": object()})
