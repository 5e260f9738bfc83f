"""Comparisons that are stored with a plan, to choose between branches without a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from taskiq_flow.codec import decode, encode
from taskiq_flow.exceptions import ConditionError, ConfigurationError

Key: TypeAlias = str | int | tuple[str | int, ...] | None
"""Which part of a value is meant: a key of a dict, a place in a list, or a path of such."""


@dataclass(frozen=True, slots=True)
class ValueAt:
    """A part of the value; `Pipeline.branch` chooses by it."""

    path: tuple[str | int, ...] = ()

    def of(self, value: Any) -> Any:
        """Return the part; None where there is no such part."""
        for step in self.path:
            if isinstance(value, Mapping):
                value = cast("Mapping[Any, Any]", value).get(step)
            elif isinstance(value, (list, tuple)) and isinstance(step, int):
                items = cast("Sequence[Any]", value)
                value = items[step] if -len(items) <= step < len(items) else None
            else:
                return None
        return value

    def __str__(self) -> str:
        return "value" + "".join(f"[{step!r}]" for step in self.path)


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a closed set; made by the functions of this module.

    Both sides are compared as they are stored: a model or a dataclass is a dict of its fields, a
    member of an enumeration its value.
    """

    name: str
    at: ValueAt = ValueAt()
    operand: str = "null"
    parts: tuple[Condition, ...] = ()

    def holds(self, value: Any) -> bool:
        """Say whether it is true of a value.

        Raises:
            ConditionError: The two cannot be compared.
        """
        if self.name in _COMBINE:
            return _COMBINE[self.name](self.parts, value)
        part, operand = self.at.of(value), decode(self.operand.encode())
        try:
            return bool(_COMPARE[self.name](part, operand))
        except TypeError as error:
            raise ConditionError(str(self), type(part).__name__, str(error)) from error

    def __str__(self) -> str:
        if self.parts:
            return f"{self.name}({', '.join(str(part) for part in self.parts)})"
        if self.name in _UNARY:
            return f"{self.name}({self.at})"
        return f"{self.name}({self.at}, {decode(self.operand.encode())!r})"

    def to_json(self) -> list[Any]:
        parts = [part.to_json() for part in self.parts]
        return [self.name, list(self.at.path), self.operand, parts]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Condition:
        """Read a stored comparison.

        Raises:
            ConfigurationError: A newer version stored one that this one does not know.
        """
        name, path, operand, parts = data
        if name not in _COMPARE and name not in _COMBINE:
            raise ConfigurationError(
                f"The stored condition {name!r} is not known here; update this worker."
            )
        return cls(name, ValueAt(tuple(path)), operand, tuple(map(cls.from_json, parts)))


def value_at(key: Key = None) -> ValueAt:
    """The value itself, or a part of it: ``value_at("status")``, ``value_at(("order", 0))``."""
    return ValueAt(_path(key))


def equals(operand: Any, *, key: Key = None) -> Condition:
    """The value equals this one."""
    return _compare("equals", operand, key)


def not_equals(operand: Any, *, key: Key = None) -> Condition:
    """The value differs from this one."""
    return _compare("not_equals", operand, key)


def greater_than(operand: Any, *, key: Key = None) -> Condition:
    """The value is greater than this one."""
    return _compare("greater_than", operand, key)


def at_least(operand: Any, *, key: Key = None) -> Condition:
    """The value is this one or greater."""
    return _compare("at_least", operand, key)


def less_than(operand: Any, *, key: Key = None) -> Condition:
    """The value is less than this one."""
    return _compare("less_than", operand, key)


def at_most(operand: Any, *, key: Key = None) -> Condition:
    """The value is this one or less."""
    return _compare("at_most", operand, key)


def one_of(*operands: Any, key: Key = None) -> Condition:
    """The value equals one of these."""
    return _compare("one_of", list(operands), key)


def contains(operand: Any, *, key: Key = None) -> Condition:
    """The value, which is a list, a text or a dict, contains this one."""
    return _compare("contains", operand, key)


def is_none(*, key: Key = None) -> Condition:
    """The value is None, or there is no such part."""
    return _compare("is_none", None, key)


def is_true(*, key: Key = None) -> Condition:
    """The value is true as ``if`` takes it: neither empty, zero, None nor False."""
    return _compare("is_true", None, key)


def all_of(*conditions: Condition) -> Condition:
    """All of these hold."""
    return _combine("all_of", conditions)


def any_of(*conditions: Condition) -> Condition:
    """At least one of these holds."""
    return _combine("any_of", conditions)


def negated(condition: Condition) -> Condition:
    """This one does not hold."""
    return _combine("negated", (condition,))


def _compare(name: str, operand: Any, key: Key) -> Condition:
    stored = encode(operand, where=f"operand of the condition {name}()").decode()
    return Condition(name, ValueAt(_path(key)), stored)


def _combine(name: str, conditions: Sequence[object]) -> Condition:
    parts = [part for part in conditions if isinstance(part, Condition)]
    if not parts or len(parts) != len(conditions):
        raise ConfigurationError(
            f"{name}() takes conditions, not {list(conditions)!r}; make them with the functions "
            f"of taskiq_flow.conditions, such as equals(1)."
        )
    return Condition(name, parts=tuple(parts))


def _path(key: object) -> tuple[str | int, ...]:
    if key is None:
        return ()
    steps = cast("tuple[object, ...]", key) if isinstance(key, tuple) else (key,)
    path = tuple(step for step in steps if isinstance(step, (str, int)))
    if len(path) != len(steps):
        raise ConfigurationError(f"A key is a text, a number or a tuple of such, not {key!r}.")
    return path


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "equals": lambda value, operand: value == operand,
    "not_equals": lambda value, operand: value != operand,
    "greater_than": lambda value, operand: value > operand,
    "at_least": lambda value, operand: value >= operand,
    "less_than": lambda value, operand: value < operand,
    "at_most": lambda value, operand: value <= operand,
    "one_of": lambda value, operand: value in operand,
    "contains": lambda value, operand: operand in value,
    "is_none": lambda value, _: value is None,
    "is_true": lambda value, _: bool(value),
}
_COMBINE: dict[str, Callable[[Sequence[Condition], Any], bool]] = {
    "all_of": lambda parts, value: all(part.holds(value) for part in parts),
    "any_of": lambda parts, value: any(part.holds(value) for part in parts),
    "negated": lambda parts, value: not parts[0].holds(value),
}
_UNARY = frozenset({"is_none", "is_true"})
