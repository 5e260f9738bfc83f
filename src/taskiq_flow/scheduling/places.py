"""Where a scheduler keeps its jobs, from what users say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taskiq_flow.exceptions import ScheduleError
from taskiq_flow.scheduling.book import JobBook
from taskiq_flow.storage import InMemoryStorageAdapter
from taskiq_flow.stores.base import RunStore

DEFAULT_PATH: Final = "taskiq-flow-schedules.db"


def open_book(
    runs: RunStore, given: Mapping[str, str | RunStore | None], store_path: str | None
) -> JobBook:
    """Open the jobs at the place that is named, else beside the runs.

    Raises:
        ScheduleError: Several places are named.
        StoreUrlError: There can be no jobs there.
        MissingExtraError: Its packages are not installed.
    """
    named = {name: place for name, place in given.items() if place is not None}
    if len(named) > 1:
        raise ScheduleError("place", sorted(named), "is given more than once; give one of them")
    place = next(iter(named.values()), None)
    if store_path is not None and place not in (None, "sqlite"):
        raise ScheduleError("store_path", store_path, "goes with store='sqlite' only")
    if store_path is not None or place == "sqlite":
        place = f"sqlite:///{store_path or DEFAULT_PATH}"
    if place == "memory":
        return JobBook(InMemoryStorageAdapter())
    if isinstance(place, str):
        return JobBook.beside(place, namespace=runs.options.namespace)
    return JobBook.beside(runs if place is None else place)
