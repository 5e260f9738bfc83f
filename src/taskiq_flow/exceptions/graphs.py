"""Graphs whose tasks do not fit together."""

from __future__ import annotations

from collections.abc import Sequence

from taskiq_flow.exceptions.root import ConfigurationError


class InvalidOutputError(ConfigurationError):
    """The outputs of a graph contradict each other."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class DuplicateOutputError(InvalidOutputError):
    """Two steps write the same name, so a reader could not know which it gets."""

    def __init__(self, output: str, first: str, second: str) -> None:
        self.output, self.first, self.second = output, first, second
        super().__init__(
            f"Duplicate output name {output!r}: {first!r} and {second!r} both write it; "
            f"rename one of the outputs."
        )


class InputConflictError(InvalidOutputError):
    """A name was declared as an external input although a step writes it."""

    def __init__(self, name: str, producer: str) -> None:
        self.name, self.producer = name, producer
        super().__init__(
            f"External input {name!r} conflicts with task output: {producer!r} writes it; "
            f"rename one of them."
        )


class InputBindingError(ConfigurationError):
    """The declared inputs of a task cannot be matched to its parameters."""

    def __init__(self, task: str, names: Sequence[str], unbound: Sequence[str]) -> None:
        self.task, self.names, self.unbound = task, tuple(names), tuple(unbound)
        listed = ", ".join(repr(n) for n in self.names)
        free = ", ".join(repr(p) for p in self.unbound) or "none"
        super().__init__(
            f"Task {task!r} declares the input {listed} but has no such parameter (not yet bound: "
            f"{free}); say which parameter takes it: inputs={{'parameter': 'data name'}}."
        )


class CycleError(ConfigurationError):
    """Steps need each other's results, so none of them could start."""

    def __init__(self, cycle: Sequence[str]) -> None:
        self.cycle = tuple(cycle)
        super().__init__(
            f"Circular dependency detected: {' → '.join(self.cycle)}; "
            f"remove or rename one of these inputs."
        )


class EmptyGraphError(ConfigurationError):
    """A graph without nodes was validated."""

    def __init__(self) -> None:
        super().__init__("DAG contains no nodes; add a task before it is validated.")


class TypeMismatchError(ConfigurationError, TypeError):
    """A step returns a type that the steps after it cannot take."""

    def __init__(self, sentences: Sequence[str]) -> None:
        self.sentences = tuple(sentences)
        super().__init__(" ".join(self.sentences))


class UnknownPictureError(ConfigurationError):
    """A pipeline was to be drawn as something that there is no renderer for."""

    def __init__(self, wanted: str, known: Sequence[str]) -> None:
        self.wanted, self.known = wanted, tuple(known)
        super().__init__(
            f"A pipeline cannot be drawn as {wanted!r}; use one of {', '.join(self.known)}."
        )
