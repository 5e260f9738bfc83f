"""The contract of a run store, as a class of tests that a store's own test class inherits."""

from __future__ import annotations

from taskiq_flow.testing.contract_fanout import (
    LimitContract,
    MapContract,
    SequenceContract,
    WaitingContract,
)
from taskiq_flow.testing.contract_life import (
    ClaimContract,
    CreationContract,
    FailureContract,
    LossContract,
    OutcomeContract,
)
from taskiq_flow.testing.contract_reading import (
    EventContract,
    ListingContract,
    NeighbourContract,
    NoteContract,
    OutboxContract,
    SnapshotContract,
    ValueContract,
)


class RunStoreContract(
    CreationContract,
    ClaimContract,
    OutcomeContract,
    FailureContract,
    LossContract,
    MapContract,
    SequenceContract,
    LimitContract,
    WaitingContract,
    ValueContract,
    SnapshotContract,
    ListingContract,
    EventContract,
    NoteContract,
    NeighbourContract,
    OutboxContract,
):
    """Every promise of `RunStore`, in virtual time.

    Inherit it under a name that pytest collects, and give it one asynchronous fixture::

        pytest.register_assert_rewrite("taskiq_flow.testing")  # in conftest.py, for readable diffs

        class TestMyStore(RunStoreContract):
            @pytest.fixture
            async def bench(self):
                async with StoreBench(lambda options, clock: MyStore(options, clock)) as bench:
                    yield bench

    The store must take its time from the clock that it is given, and keep the namespaces in its
    options apart. The tests need pytest and pytest-asyncio in its auto mode.
    """
