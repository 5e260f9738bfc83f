"""Random graphs with random failures end as a small model says, and so do their retries."""

import asyncio
import inspect
import logging
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import DataflowPipeline, PipelineTask

GRAPHS, AT_ONCE = 1000, 50


@dataclass(frozen=True)
class Node:
    """A task that adds one to the sum of what it needs, after so many failures."""

    name: str
    needs: tuple[str, ...]
    failures: int
    tries: int

    @property
    def breaks(self) -> bool:
        return self.failures >= self.tries


@dataclass
class Graph:
    """Nodes in an order in which each stands after those that it needs."""

    number: int
    policy: str
    nodes: list[Node]
    mended: bool = False
    calls: Counter[str] = field(default_factory=Counter[str])

    @classmethod
    def draw(cls, number: int) -> "Graph":
        chance = random.Random(number)
        nodes: list[Node] = []
        for index in range(chance.randint(1, 9)):
            before = [node.name for node in nodes]
            needs = chance.sample(before, chance.randint(0, min(3, len(before))))
            failures = chance.choice((0, 0, 0, 1, 2, 9))
            nodes.append(Node(f"n{index}", tuple(needs), failures, chance.randint(1, 3)))
        return cls(number, chance.choice(("stop", "continue", "dead_letter")), nodes)

    def pipeline(self, broker: InMemoryBroker) -> DataflowPipeline:
        tasks = [self._task(broker, node) for node in self.nodes]
        return DataflowPipeline(broker, tasks).on_error(self.policy)

    def _task(self, broker: InMemoryBroker, node: Node) -> Any:
        async def work(**values: int) -> int:
            self.calls[node.name] += 1
            if not self.mended and self.calls[node.name] <= node.failures:
                raise ConnectionError(f"{node.name}, try {self.calls[node.name]}")
            return 1 + sum(values.values())

        work.__name__ = node.name
        parameters = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in node.needs]
        work.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        labels = {"max_retries": node.tries, "retry_delay": 0, "retry_jitter": False}
        return broker.register_task(work, task_name=f"g{self.number}:{node.name}", **labels)

    # -- the model

    def values(self, *, mended: bool = False) -> dict[str, int]:
        """What every node gives that is not broken and needs nothing broken."""
        found: dict[str, int] = {}
        for node in self.nodes:
            if (mended or not node.breaks) and all(need in found for need in node.needs):
                found[node.name] = 1 + sum(found[need] for need in node.needs)
        return found

    def broken(self) -> set[str]:
        """The nodes that fail for good: what they need is there, and they break."""
        found = self.values()
        return {n.name for n in self.nodes if n.breaks and all(need in found for need in n.needs)}

    def expected_calls(self) -> dict[str, int]:
        found, broken = self.values(), self.broken()
        return {
            node.name: min(node.failures + 1, node.tries)
            for node in self.nodes
            if node.name in found or node.name in broken
        }


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


async def check(graph: Graph, broker: InMemoryBroker) -> None:
    task = await graph.pipeline(broker).kiq()
    result = await task.wait_result(timeout=60, raise_on_error=False)
    report = await task.get_report()
    broken, values = graph.broken(), graph.values()

    fails = bool(broken) and graph.policy != "continue"
    assert result.is_err is fails
    failed = {failure.step: failure.attempts for failure in report.failed}
    if fails and graph.policy == "stop":
        assert task.failed_step in broken
        assert without_none(task.partial_results).items() <= values.items()
        assert failed.keys() <= broken
        assert all(graph.calls[n] <= c for n, c in graph.expected_calls().items())
    else:
        found = task.partial_results if fails else result.return_value
        assert without_none(found) == values
        assert failed.keys() == broken
        assert set(report.completed) == values.keys()
        assert set(report.skipped) == {n.name for n in graph.nodes} - values.keys() - broken
        assert dict(graph.calls) == graph.expected_calls() == dict(report.attempts)
    if broken:
        await check_retry(graph, task, set(report.completed))


async def check_retry(graph: Graph, task: PipelineTask[Any], done: set[str]) -> None:
    """Once nothing breaks any more, the retry gives everything, and runs what was not done."""
    graph.mended = True
    graph.calls.clear()

    again = await task.retry()
    result = await again.wait_result(timeout=60)

    assert result.return_value == graph.values(mended=True)
    assert dict(graph.calls) == {n.name: 1 for n in graph.nodes if n.name not in done}
    assert set((await again.get_report()).taken_over) == done


@pytest.mark.timeout(300)
async def test_random_graphs_end_as_the_model_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # tracebacks of failures that are meant cost half the time
    for start in range(0, GRAPHS, AT_ONCE):
        broker = InMemoryBroker()
        graphs = [Graph.draw(number) for number in range(start, start + AT_ONCE)]
        checks = await asyncio.gather(
            *(check(graph, broker) for graph in graphs), return_exceptions=True
        )
        await broker.shutdown()
        for graph, error in zip(graphs, checks, strict=True):
            if error is not None:
                raise AssertionError(f"graph {graph.number} ({graph.policy})") from error
