"""What this project tests itself with, for those who write a store of their own."""

from taskiq_flow.testing.clock import ManualClock
from taskiq_flow.testing.storage_contract import StorageAdapterContract
from taskiq_flow.testing.store_bench import BenchRun, StoreBench, step
from taskiq_flow.testing.store_contract import RunStoreContract

__all__ = [
    "BenchRun",
    "ManualClock",
    "RunStoreContract",
    "StorageAdapterContract",
    "StoreBench",
    "step",
]
