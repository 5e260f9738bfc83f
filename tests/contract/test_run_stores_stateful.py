"""Whatever happens in whatever order, every store answers as the model does."""

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.stores.redis import RedisRunStore
from taskiq_flow.stores.sql import SqlRunStore
from taskiq_flow.testing.store_bench import MakeStore
from tests.contract.lockstep import LockStep

# Quick while all is well; to shrink what went wrong takes longer than a test may by default.
pytestmark = pytest.mark.timeout(900)


def hold_to_the_model(make: MakeStore, *, examples: int) -> None:
    run_state_machine_as_test(
        lambda: LockStep(make),
        settings=settings(max_examples=examples, stateful_step_count=60),
    )


def test_repeated_operations_change_nothing_in_memory() -> None:
    hold_to_the_model(lambda options, clock: MemoryRunStore(options, clock=clock), examples=40)


@pytest.mark.redis
def test_redis_answers_as_the_model_does(redis_url: str) -> None:
    hold_to_the_model(
        lambda options, clock: RedisRunStore(redis_url, options, clock=clock), examples=40
    )


def test_sqlite_answers_as_the_model_does(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    hold_to_the_model(lambda options, clock: SqlRunStore(url, options, clock=clock), examples=15)


@pytest.mark.postgres
def test_postgres_answers_as_the_model_does(postgres_url: str) -> None:
    hold_to_the_model(
        lambda options, clock: SqlRunStore(postgres_url, options, clock=clock), examples=10
    )
