"""Which way a branch takes, as it is stored with the steps that choose and that join again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from taskiq_flow.codec import decode
from taskiq_flow.exceptions import InvalidTaskOptionError, NoCaseError


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways of one branch: their encoded keys, and the steps with which each begins.

    A branch with a default has one way more than it has keys.
    """

    by_truth: bool
    keys: tuple[str, ...]
    entries: tuple[tuple[int, ...], ...]

    def taken(self, step: str, value: Any) -> int:
        """Say which way a value takes.

        Raises:
            NoCaseError: There is none for it.
        """
        if self.by_truth:
            return 0 if value else 1
        for place, key in enumerate(self.keys):
            known = decode(key.encode())
            # True == 1 in Python, but nobody means them to be one case.
            if known == value and isinstance(known, bool) is isinstance(value, bool):
                return place
        if len(self.entries) > len(self.keys):
            return len(self.keys)
        raise NoCaseError(step, value, [decode(key.encode()) for key in self.keys])

    def skipped(self, taken: int) -> tuple[int, ...]:
        """The first steps of all ways but one."""
        return tuple(
            step for way, steps in enumerate(self.entries) if way != taken for step in steps
        )

    def label(self, entry: int) -> str:
        """What is written on the edge to the first step of a way."""
        for way, steps in enumerate(self.entries):
            if entry in steps:
                return self._name(way)
        return ""

    def _name(self, way: int) -> str:
        if self.by_truth:
            return "no" if way else "yes"
        return str(decode(self.keys[way].encode())) if way < len(self.keys) else "default"

    def to_json(self) -> list[Any]:
        return [self.by_truth, list(self.keys), [list(steps) for steps in self.entries]]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Ways:
        by_truth, keys, entries = data
        return cls(by_truth, tuple(keys), tuple(tuple(steps) for steps in entries))


def case_keys(cases: Mapping[Any, Any]) -> list[str]:
    """Encode the keys of cases.

    Raises:
        InvalidTaskOptionError: There are none, or one is not a plain value.
    """
    if not cases:
        raise InvalidTaskOptionError("cases", cases, "must have at least one case")
    plain = [key.value if isinstance(key, Enum) else key for key in cases]
    for key in plain:
        if key is not None and not isinstance(key, (str, int, float, bool)):
            rule = "must have texts, numbers, True, False, None or enumeration members as keys"
            raise InvalidTaskOptionError("cases", key, rule)
    return [json.dumps(key) for key in plain]
