"""The data of one run, by name, for those who run a graph by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class DataCache:
    """Values by name. It lives in this process only; runs of the engine keep theirs in a store."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    @property
    def keys(self) -> list[str]:
        return list(self._values)

    def set(self, key: str, value: Any) -> None:
        self._values[key] = value

    def get(self, key: str) -> Any:
        """Return a value.

        Raises:
            KeyError: Nothing was set under this name; `has` tells that from a stored None.
        """
        return self._values[key]

    def has(self, key: str) -> bool:
        return key in self._values

    def inject(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of these names, ready to be passed as keyword arguments.

        Raises:
            KeyError: One of them was not set.
        """
        return {key: self.get(key) for key in keys}

    def clear(self) -> None:
        self._values.clear()
