"""Random graphs with random failures end on every store as a few lines of Python say they must."""

import asyncio
import random
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import DAGBuilder, ExecutionEngine, PipelineError, PipelineMiddleware
from taskiq_flow.errors import ErrorHandlingMode

GRAPHS = 50


@dataclass(frozen=True)
class Node:
    """A step that adds up the outputs that it takes, and ``own``; or fails."""

    name: str
    takes: tuple[str, ...]
    own: int
    fails: bool


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which each comes after those that it takes from."""

    nodes: tuple[Node, ...]

    @classmethod
    def random(cls, chance: random.Random) -> "Graph":
        nodes: list[Node] = []
        for number in range(chance.randint(1, 12)):
            known = [node.name for node in nodes]
            takes = chance.sample(known, min(len(known), chance.choice([0, 1, 1, 2, 3])))
            fails = chance.random() < 0.12
            nodes.append(Node(f"n{number}", tuple(takes), chance.randint(0, 9), fails))
        return cls(tuple(nodes))

    def outputs(self) -> dict[str, int | None]:
        """What each step gives; None for one that fails, or needs what is None."""
        given: dict[str, int | None] = {}
        for node in self.nodes:
            taken = [given[name] for name in node.takes]
            sound = [value for value in taken if value is not None]
            lost = node.fails or len(sound) < len(taken)
            given[node.name] = None if lost else node.own + sum(sound)
        return given

    def failing(self) -> set[str]:
        """The steps that are run and fail: nothing that they need has failed."""
        given = self.outputs()
        return {
            node.name
            for node in self.nodes
            if node.fails and all(given[name] is not None for name in node.takes)
        }


STORES = [
    "memory",
    "sqlite",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("postgres", marks=pytest.mark.postgres),
]


@pytest.fixture
async def broker(
    request: pytest.FixtureRequest, store: str, tmp_path: Path, namespace: str
) -> AsyncIterator[InMemoryBroker]:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'runs.db'}"}
    url = urls.get(store) or request.getfixturevalue(f"{store}_url")
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=url, namespace=namespace))

    @broker.task(task_name="add_up")
    async def add_up(own: int, **taken: int) -> int:
        await asyncio.sleep(0)
        return own + sum(taken.values())

    @broker.task(task_name="fail")
    async def fail(own: int, **taken: int) -> int:
        raise ValueError(f"{own} was to fail")

    yield broker
    await broker.shutdown()


def engine_of(broker: InMemoryBroker, graph: Graph, mode: ErrorHandlingMode) -> ExecutionEngine:
    builder = DAGBuilder()
    for node in graph.nodes:
        task = broker.find_task("fail" if node.fails else "add_up")
        assert task is not None
        inputs = {"own": f"own_{node.name}", **{name: name for name in node.takes}}
        builder.add_task(task, node.name, inputs)
    return ExecutionEngine(broker, builder.build(), error_mode=mode)


async def check(broker: InMemoryBroker, seed: int) -> None:
    chance = random.Random(seed)
    graph = Graph.random(chance)
    mode = chance.choice([ErrorHandlingMode.FAIL_FAST, ErrorHandlingMode.CONTINUE_ON_ERROR])
    engine = engine_of(broker, graph, mode)
    own = {f"own_{node.name}": node.own for node in graph.nodes}
    expected, failing = graph.outputs(), graph.failing()

    outcome: Any
    try:
        outcome = await engine.execute(own)
    except PipelineError as error:
        outcome = error

    if mode is ErrorHandlingMode.FAIL_FAST and failing:
        assert isinstance(outcome, PipelineError), f"seed {seed}"
        assert outcome.failed_step in failing, f"seed {seed}"
        made = outcome.partial_results.items()
        assert all(expected[name] == value for name, value in made), f"seed {seed}"
    else:
        assert outcome == expected, f"seed {seed}"
        assert set(engine.errors.failed_tasks) == failing, f"seed {seed}"
        lost = {name for name, value in expected.items() if value is None}
        assert set(engine.errors.skipped_tasks) == lost - failing, f"seed {seed}"


@pytest.mark.parametrize("store", STORES)
async def test_a_graph_gives_what_its_model_says(broker: InMemoryBroker, store: str) -> None:
    first = zlib.crc32(store.encode())  # other graphs on each of them

    async with asyncio.timeout(100):
        await asyncio.gather(*(check(broker, first + number) for number in range(GRAPHS)))
