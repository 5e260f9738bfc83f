"""Maps and reductions of lists, each as one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, cast

from taskiq import AsyncBroker
from typing_extensions import TypeVar

from taskiq_flow.compile import Compiled, OnError, Policies, Reduction, constant, encode_items
from taskiq_flow.compile.graph import GraphUse, MapOver, ReduceOver, build_graph, compile_graph
from taskiq_flow.dataflow.signature import MISSING
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.results import stored_exception
from taskiq_flow.exceptions import MapReduceShapeError
from taskiq_flow.launch import RunOptions, check_graph, launch, routing_of, use_on
from taskiq_flow.model.numbers import check_count
from taskiq_flow.model.records import ItemMark
from taskiq_flow.stores.base import CHUNK
from taskiq_flow.task import PipelineTask

R = TypeVar("R", default=Any)

ProgressCallback = Callable[[int, int], None]
"""Is told how many items are done, of how many."""

PROGRESS_SECONDS = 0.2
"""How often a run is looked at for a progress callback; items are no events of a run."""


@dataclass(slots=True)
class ReduceResult(Generic[R]):
    """What a reduction gave; equal to the bare value."""

    return_value: R
    output_name: str
    duration: float
    task: PipelineTask[Any] = field(repr=False)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ReduceResult):
            return bool(self.return_value == cast("ReduceResult[Any]", other).return_value)
        return bool(self.return_value == other)

    __hash__ = None  # type: ignore[assignment] - equal to values that have none

    async def wait_result(self) -> ReduceResult[R]:
        """Return this; the run has ended, and the value is here."""
        return self


@dataclass(slots=True)
class MapResult(Generic[R]):
    """What a map gave, in the order of its items; equal to the bare list.

    None stands where an item failed. ``duration`` is in seconds, waiting included.
    """

    results: list[R]
    output_name: str
    items_processed: int
    duration: float
    errors: list[BaseException]
    task: PipelineTask[Any] = field(repr=False)

    @property
    def return_value(self) -> list[R]:
        return self.results

    @property
    def success_rate(self) -> float:
        """The share of items that did not fail; 0 where there were none."""
        if not self.items_processed:
            return 0.0
        return (self.items_processed - len(self.errors)) / self.items_processed

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MapResult):
            return self.results == cast("MapResult[Any]", other).results
        return self.results == other

    __hash__ = None  # type: ignore[assignment] - equal to lists, which have none

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[R]:
        return iter(self.results)

    def __getitem__(self, index: int) -> R:
        return self.results[index]

    async def wait_result(self) -> MapResult[R]:
        """Return this; the run has ended, and the values are here."""
        return self


@dataclass(slots=True)
class ChunkConfig:
    """How a list is cut into chunks.

    `MapReduce.map` works on as many items at once as there are chunks; within a chunk one follows
    another. ``adaptive`` makes chunks smaller for short lists and larger for long ones.
    """

    chunk_size: int = 100
    max_chunks: int | None = None
    adaptive: bool = False
    min_chunk_size: int = 10
    max_chunk_size: int = 1000

    def __post_init__(self) -> None:
        for name in ("chunk_size", "max_chunks", "min_chunk_size", "max_chunk_size"):
            check_count(name, getattr(self, name))

    def size_for(self, length: int) -> int:
        """How many items a chunk of a list of this length has."""
        if self.adaptive and length < 100:
            return max(self.min_chunk_size, length // 2)
        if self.adaptive and length > 10_000:
            return min(self.max_chunk_size, max(self.min_chunk_size, length // 100))
        return self.chunk_size

    def calculate_chunks(self, items: Sequence[Any]) -> list[list[Any]]:
        """Cut a list into at most ``max_chunks`` chunks, which may leave out its end."""
        size = self.size_for(len(items))
        chunks = [list(items[start : start + size]) for start in range(0, len(items), size)]
        return chunks[: self.max_chunks]


class MapReduce:
    """Maps and reduces lists on workers; every call is one run, and waits for its end.

    Nothing of it depends on the caller's process: when that dies, the run goes on.
    """

    @staticmethod
    async def map(  # noqa: PLR0913 - each of them is a documented option
        broker: AsyncBroker,
        task: Any,
        items: Iterable[Any],
        output: str = "mapped",
        *,
        param_name: str | None = None,
        max_parallel: int | None = None,
        chunk_config: ChunkConfig | None = None,
        progress_callback: ProgressCallback | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of the run, not of this call
        **kwargs: Any,
    ) -> MapResult[Any]:
        """Call a task for each item, and return the results in the order of the items.

        An item whose call failed has None as its result, and its exception in ``errors``.

        Raises:
            BadItemsError: There are no items in what was given.
            PipelineError: The run was cancelled, or took longer than ``timeout`` seconds.
        """
        use = use_on(broker, task, (), kwargs, param_name=param_name)
        encoded = encode_items(use.name, items)
        if chunk_config is not None and encoded:
            chunks = -(-len(encoded) // chunk_config.size_for(len(encoded)))
            at_once = [n for n in (max_parallel, chunk_config.max_chunks, chunks) if n is not None]
            max_parallel = min(at_once)
        over = MapOver(encoded, max_parallel)
        run = _MapRun(broker, GraphUse(use, output, over), output, len(encoded))
        return await run.result(progress_callback, timeout)

    @staticmethod
    async def map_sweep(
        broker: AsyncBroker,
        task: Any,
        param_values: Mapping[str, Sequence[Any]],
        output: str = "swept",
        *,
        max_parallel: int | None = None,
        progress_callback: ProgressCallback | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of the run, not of this call
        **kwargs: Any,
    ) -> MapResult[Any]:
        """Call a task with every combination of parameter values; the last one varies fastest."""
        use = use_on(broker, task, (), kwargs)
        over = MapOver.sweep(use.name, param_values, max_parallel)
        run = _MapRun(broker, GraphUse(use, output, over), output, len(over.items))
        return await run.result(progress_callback, timeout)

    @staticmethod
    async def reduce(  # noqa: PLR0913 - each of them is a documented option
        broker: AsyncBroker,
        task: Any,
        inputs: MapResult[Any] | Iterable[Any],
        output: str = "reduced",
        *,
        input_name: str = "values",
        initial: Any = MISSING,
        chunk_size: int | None = None,
        max_parallel: int | None = None,
        param_name: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of the run, not of this call
        **kwargs: Any,
    ) -> ReduceResult[Any]:
        """Call a task with the whole list, and return the one value that it makes of it.

        ``initial`` is put before the first element. With ``chunk_size`` the task gets so many
        elements at a time, then their results, as a tree: it must be associative.

        Raises:
            PipelineError: The task failed, or the run was cancelled or took too long.
        """
        began = time.perf_counter()
        values = inputs.results if isinstance(inputs, MapResult) else list(inputs)
        use = use_on(broker, task, (), kwargs, param_name=param_name)
        how = _reduction(use.name, initial, chunk_size, max_parallel, len(values))
        compiled = _compile(broker, [GraphUse(use, output, ReduceOver(input_name, how))], output)
        handle = await launch(broker, compiled, [values], RunOptions(timeout_seconds=timeout))
        result = await handle.wait_result()
        return ReduceResult(result.return_value, output, time.perf_counter() - began, handle)

    @staticmethod
    async def map_reduce(  # noqa: PLR0913 - each of them is a documented option
        broker: AsyncBroker,
        map_task: Any = None,
        reduce_task: Any = None,
        items: Any = None,
        *,
        map_output: str = "mapped",
        reduce_output: str = "reduced",
        map_func: Any = None,
        reduce_func: Any = None,
        max_parallel: int | None = None,
        map_param_name: str | None = None,
        chunk_size: int | None = None,
        initial: Any = MISSING,
        skip_errors: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - of the run, not of this call
        **kwargs: Any,
    ) -> ReduceResult[Any]:
        """Map and reduce in one run; ``(broker, map_task, items, reduce_task)`` is accepted too.

        The intermediate list never comes to this process. A failed item fails the run, unless
        ``skip_errors`` leaves it out. ``kwargs`` are bound to the map.

        Raises:
            MapReduceShapeError: A task or the items are missing.
            PipelineError: The run failed, was cancelled, or took longer than ``timeout``.
        """
        began = time.perf_counter()
        if reduce_task is not None and not hasattr(reduce_task, "task_name"):
            reduce_task, items = items, reduce_task
        map_task = map_func if map_task is None else map_task
        reduce_task = reduce_func if reduce_task is None else reduce_task
        if map_task is None or reduce_task is None or items is None:
            raise MapReduceShapeError("it needs a map task, a reduce task and items")
        mapper = use_on(broker, map_task, (), kwargs, param_name=map_param_name)
        reducer = use_on(broker, reduce_task)
        encoded = encode_items(mapper.name, items)
        how = _reduction(reducer.name, initial, chunk_size, max_parallel, None)
        over = MapOver(encoded, max_parallel, skip_errors)
        uses = [
            GraphUse(mapper, map_output, over),
            GraphUse(reducer, reduce_output, ReduceOver(map_output, how)),
        ]
        compiled = _compile(broker, uses, reduce_output)
        handle = await launch(broker, compiled, [], RunOptions(timeout_seconds=timeout))
        result = await handle.wait_result()
        duration = time.perf_counter() - began
        return ReduceResult(result.return_value, reduce_output, duration, handle)


@dataclass(frozen=True, slots=True)
class _MapRun:
    """One map that goes on past failed items."""

    broker: AsyncBroker
    use: GraphUse
    output: str
    length: int

    async def result(
        self, progress: ProgressCallback | None, timeout_seconds: float | None
    ) -> MapResult[Any]:
        began = time.perf_counter()
        compiled = _compile(self.broker, [self.use], self.output, on_error=OnError.CONTINUE)
        options = RunOptions(timeout_seconds=timeout_seconds)
        handle = await launch(self.broker, compiled, [], options)
        client = RunClient.of(self.broker)
        if progress is not None:
            await self._report(client, handle.run_id, progress)
        result = await handle.wait_result()
        return MapResult(
            results=cast("list[Any]", result.return_value),
            output_name=self.output,
            items_processed=self.length,
            duration=time.perf_counter() - began,
            errors=await self._errors(client, handle.run_id),
            task=handle,
        )

    async def _report(self, client: RunClient, run_id: str, progress: ProgressCallback) -> None:
        said = -1
        while True:
            ended = await client.wait(run_id, timeout_seconds=PROGRESS_SECONDS)
            run = await client.store.get(run_id)
            done = run.steps[0].items_done if run is not None and run.steps else 0
            if done != said:
                said = done
                progress(done, self.length)
            if ended is not None:
                return

    async def _errors(self, client: RunClient, run_id: str) -> list[BaseException]:
        run = await client.store.get(run_id, steps=False)
        if run is None or not run.failures:
            return []
        errors: list[BaseException] = []
        for start in range(0, self.length, CHUNK):
            page = await client.store.items(run_id, 0, start, min(start + CHUNK, self.length))
            errors.extend(
                stored_exception(entry[1:], self.output)
                for entry in page
                if entry is not None and entry[:1] == ItemMark.FAILED
            )
        return errors


def _compile(
    broker: AsyncBroker,
    uses: Sequence[GraphUse],
    result: str,
    *,
    on_error: OnError = OnError.STOP,
) -> Compiled:
    dag = build_graph(uses)
    check_graph(broker, dag)
    policies = Policies(on_error=on_error)
    return compile_graph(dag, None, policies, routing_of(broker), result=result, kind="map_reduce")


def _reduction(
    step: str, initial: Any, chunk_size: int | None, max_parallel: int | None, length: int | None
) -> Reduction:
    first = None if initial is MISSING else constant(initial, "the initial value", step)
    return Reduction(chunk_size, first, length, max_parallel)
