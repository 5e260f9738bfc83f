"""A step may ask who it is, and takes what Taskiq injects."""

from taskiq import Context, InMemoryBroker, TaskiqDepends

from taskiq_flow.context import PipelineContext
from taskiq_flow.pipeline import DataflowPipeline, Pipeline


async def test_a_parameter_annotated_with_the_context_receives_it(broker: InMemoryBroker) -> None:
    @broker.task
    async def first(data: str, context: PipelineContext) -> list[object]:
        return [data, context.step_index, context.step_name, context.pipeline_id]

    @broker.task
    def second(context: PipelineContext, before: list[object]) -> list[object]:
        return [*before, context.step_index]

    task = await Pipeline(broker, first).call_next(second).kiq("x")

    assert (await task.wait_result()).return_value == ["x", 0, "first", task.task_id, 1]


async def test_a_parameter_that_is_only_named_context_receives_it_when_asked_for(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    def who(value: int, context) -> str:
        return context.step_name

    task = await Pipeline(broker, who).with_context(enable=True).kiq(1)

    assert (await task.wait_result()).return_value == "who"


async def test_what_taskiq_injects_is_no_input(broker: InMemoryBroker) -> None:
    def prefix() -> str:
        return "id"

    @broker.task
    def tell(
        value: int,
        taskiq: Context = TaskiqDepends(),  # noqa: B008 - Taskiq's way
        name: str = TaskiqDepends(prefix),
    ) -> str:
        return f"{name} {value} {bool(taskiq.message.task_id)}"

    results = await DataflowPipeline(broker, [tell]).kiq_dataflow(5)

    assert results == {"tell": "id 5 True"}
