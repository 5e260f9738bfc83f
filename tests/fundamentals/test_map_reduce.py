"""Maps and reductions of whole lists."""

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.exceptions import InvalidTaskOptionError, MapReduceShapeError
from taskiq_flow.map_reduce import ChunkConfig, MapReduce
from taskiq_flow.pipeline import DataflowPipeline


class Tasks:
    """A few tasks on one broker; ``calls`` has what the reductions were given."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self.calls: list[list[int]] = []

        @broker.task
        async def square(value: int) -> int:
            return value * value

        @broker.task
        def invert(value: int) -> float:
            return 1 / value

        @broker.task
        def total(values: list[int]) -> int:
            self.calls.append(values)
            return sum(values)

        @broker.task
        def join(left: str, right: str = "!", times: int = 1) -> str:
            return (left + right) * times

        self.square, self.invert, self.total, self.join = square, invert, total, join


@pytest.fixture
def tasks(broker: InMemoryBroker) -> Tasks:
    return Tasks(broker)


async def test_a_map_gives_its_results_in_order(broker: InMemoryBroker, tasks: Tasks) -> None:
    mapped = await MapReduce.map(broker, tasks.square, [3, 1, 2], output="squares", max_parallel=2)

    assert mapped.return_value == mapped.results == [9, 1, 4]
    assert mapped == [9, 1, 4]
    assert (mapped.output_name, mapped.items_processed, mapped.success_rate) == ("squares", 3, 1.0)
    assert mapped.errors == []
    assert mapped.duration > 0


async def test_a_failed_item_leaves_none_and_its_error(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    mapped = await MapReduce.map(broker, tasks.invert, [1, 0, 2, 0])

    assert mapped.results == [1.0, None, 0.5, None]
    assert [type(error) for error in mapped.errors] == [ZeroDivisionError, ZeroDivisionError]
    assert mapped.success_rate == 0.5


async def test_a_map_of_nothing_is_empty(broker: InMemoryBroker, tasks: Tasks) -> None:
    mapped = await MapReduce.map(broker, tasks.square, [])

    assert (mapped.results, mapped.items_processed, mapped.success_rate) == ([], 0, 0.0)


async def test_progress_is_told_until_all_items_are_done(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    told: list[tuple[int, int]] = []

    await MapReduce.map(
        broker,
        tasks.square,
        range(20),
        progress_callback=lambda done, of: told.append((done, of)),
    )

    assert told[-1] == (20, 20)


async def test_other_parameters_are_bound_for_all_items(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    mapped = await MapReduce.map(broker, tasks.join, ["a"], param_name="right", left="-", times=2)

    assert mapped == ["-a-a"]


async def test_a_reduction_takes_what_a_map_gave(broker: InMemoryBroker, tasks: Tasks) -> None:
    mapped = await MapReduce.map(broker, tasks.square, [1, 2, 3])
    reduced = await MapReduce.reduce(broker, tasks.total, mapped, input_name="squares")

    assert reduced.return_value == 14
    assert reduced == 14
    assert tasks.calls == [[1, 4, 9]]


async def test_the_initial_value_is_put_first(broker: InMemoryBroker, tasks: Tasks) -> None:
    await MapReduce.reduce(broker, tasks.total, [1, 2], initial=100)

    assert tasks.calls == [[100, 1, 2]]


async def test_a_list_can_be_reduced_in_parts(broker: InMemoryBroker, tasks: Tasks) -> None:
    reduced = await MapReduce.reduce(broker, tasks.total, range(1, 8), chunk_size=3)

    assert reduced == 28
    assert sorted(tasks.calls) == [[1, 2, 3], [4, 5, 6], [6, 15, 7], [7]]


async def test_map_and_reduction_can_be_one_run(broker: InMemoryBroker, tasks: Tasks) -> None:
    by_order = await MapReduce.map_reduce(broker, tasks.square, [1, 2, 3], tasks.total)
    other_order = await MapReduce.map_reduce(broker, tasks.square, tasks.total, [1, 2, 3])
    by_name = await MapReduce.map_reduce(
        broker, map_func=tasks.square, items=[1, 2, 3], reduce_func=tasks.total, chunk_size=2
    )

    assert by_order == other_order == by_name == 14


async def test_a_map_reduce_needs_two_tasks_and_items(broker: InMemoryBroker, tasks: Tasks) -> None:
    with pytest.raises(MapReduceShapeError):
        await MapReduce.map_reduce(broker, tasks.square, tasks.total)
    with pytest.raises(MapReduceShapeError):
        await MapReduce.map_reduce(broker, tasks.square, [1, 2])


async def test_a_sweep_tries_every_combination(broker: InMemoryBroker, tasks: Tasks) -> None:
    swept = await MapReduce.map_sweep(
        broker, tasks.join, {"left": ["a", "b"], "right": ["x", "y"]}, output="joined", times=1
    )

    assert swept == ["ax", "ay", "bx", "by"]


async def test_a_graph_can_map_and_reduce(broker: InMemoryBroker, tasks: Tasks) -> None:
    pipeline = (
        DataflowPipeline(broker)
        .map(tasks.square, "numbers", "squares", max_parallel=2)
        .reduce(tasks.total, "squares", "sum", chunk_size=2)
    )

    assert await pipeline.kiq_dataflow(numbers=[1, 2, 3]) == {"squares": [1, 4, 9], "sum": 14}


async def test_the_map_reduce_shortcut_returns_the_final_value(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    declared = (
        DataflowPipeline(broker)
        .map(tasks.square, [1, 2], output="squares")
        .reduce(tasks.total, "squares", output="sum")
    )
    plain = DataflowPipeline.from_tasks(broker, [tasks.square, tasks.total])

    assert await declared.kiq_map_reduce() == 5
    for pipeline in (declared, plain):
        final = await pipeline.kiq_map_reduce(
            items=[1, 2, 3], map_output="processed", reduce_output="final"
        )
        assert final == 14


async def test_other_tasks_can_be_mapped_and_reduced_on_the_way(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    pipeline = DataflowPipeline(broker)

    assert (
        await pipeline.kiq_map_reduce_advanced(
            tasks.square, tasks.total, [1, 2, 3], max_parallel=2, initial=10
        )
        == 24
    )
    assert await pipeline.kiq_map_sweep(tasks.join, {"left": ["a", "b"]}) == ["a!", "b!"]


async def test_a_pipeline_without_a_map_is_no_map_reduce(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    pipeline = DataflowPipeline(broker, [tasks.square])

    with pytest.raises(MapReduceShapeError, match="1 task"):
        await pipeline.kiq_map_reduce(items=[1])


def test_chunks_are_as_long_as_their_configuration_says() -> None:
    assert [len(c) for c in ChunkConfig(10).calculate_chunks(range(25))] == [10, 10, 5]
    assert len(ChunkConfig(5, max_chunks=3).calculate_chunks(range(100))) == 3
    assert ChunkConfig(adaptive=True).size_for(50) == 25
    assert ChunkConfig(adaptive=True).size_for(50_000) == 500
    with pytest.raises(InvalidTaskOptionError, match="Chunk_size"):
        ChunkConfig(0)


async def test_chunks_bound_how_many_items_run_at_once(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    mapped = await MapReduce.map(
        broker, tasks.square, range(100), chunk_config=ChunkConfig(chunk_size=25), max_parallel=10
    )

    assert mapped.results[:5] == [0, 1, 4, 9, 16]
    assert len(mapped) == 100
