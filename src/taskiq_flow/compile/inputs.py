"""Matches what a graph is started with to its external inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from taskiq_flow.dataflow import DAG
from taskiq_flow.exceptions import MissingInputError, PositionalInputError, UnknownInputError


@dataclass(frozen=True, slots=True)
class ExternalInputs:
    """What a graph must be given, may be given, and which tasks take it."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    takers: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, dag: DAG) -> ExternalInputs:
        required, optional = tuple(dag.external_inputs), tuple(dag.optional_inputs)
        takers = {
            name: tuple(node.name for node in dag.consumers_of(name))
            for name in (*required, *optional)
        }
        return cls(required, optional, takers)

    @property
    def known(self) -> tuple[str, ...]:
        return (*self.required, *self.optional)

    def bind(self, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs by name.

        A single value without a name is a mapping of inputs, or the only input that there is.

        Raises:
            PositionalInputError: There is no single place for it.
            UnknownInputError: No task takes an input.
            MissingInputError: A task would not get one.
        """
        given = {**self._positional(args, named), **named}
        unknown = [name for name in given if name not in self.takers]
        if unknown:
            raise UnknownInputError(unknown, self.known)
        return self.check(given)

    def keep_known(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the inputs that some task takes, and the names of the others.

        Raises:
            MissingInputError: A task would not get one.
        """
        kept = {name: value for name, value in given.items() if name in self.takers}
        return self.check(kept), [name for name in given if name not in self.takers]

    def check(self, given: dict[str, Any]) -> dict[str, Any]:
        missing = {name: self.takers[name] for name in self.required if name not in given}
        if missing:
            raise MissingInputError(missing)
        return given

    def _positional(self, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        if not args:
            return {}
        free = [name for name in self.required if name not in named]
        if not free:
            free = [name for name in self.optional if name not in named]
        value = args[0]
        if len(args) == 1 and isinstance(value, Mapping):
            by_name = cast("Mapping[Any, Any]", value)
            is_complete = all(name in by_name for name in free)
            if len(free) != 1 or (is_complete and all(name in self.takers for name in by_name)):
                return {str(name): part for name, part in by_name.items()}
        if len(args) > 1 or len(free) != 1:
            raise PositionalInputError(len(args), self.known)
        return {free[0]: value}
