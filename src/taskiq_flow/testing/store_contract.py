"""The contract of a run store, as a class of tests that a store's own test class inherits."""

from __future__ import annotations

from taskiq_flow.testing.contract.claims import ClaimContract
from taskiq_flow.testing.contract.counts import CountContract, SumContract
from taskiq_flow.testing.contract.creation import CreationContract
from taskiq_flow.testing.contract.events import EventContract
from taskiq_flow.testing.contract.failures import FailureContract
from taskiq_flow.testing.contract.limits import LimitContract
from taskiq_flow.testing.contract.listings import ListingContract
from taskiq_flow.testing.contract.losses import LossContract
from taskiq_flow.testing.contract.maps import MapContract
from taskiq_flow.testing.contract.neighbours import NeighbourContract
from taskiq_flow.testing.contract.notes import NoteContract
from taskiq_flow.testing.contract.outbox import OutboxContract
from taskiq_flow.testing.contract.outcomes import OutcomeContract
from taskiq_flow.testing.contract.sequences import SequenceContract
from taskiq_flow.testing.contract.snapshots import SnapshotContract
from taskiq_flow.testing.contract.values import ValueContract
from taskiq_flow.testing.contract.waiting import WaitingContract


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
    CountContract,
    SumContract,
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
