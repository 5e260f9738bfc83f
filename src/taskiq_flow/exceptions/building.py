"""Pipelines that cannot be built, or not started with what they were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taskiq_flow.exceptions.root import ConfigurationError


class EmptyPipelineError(ConfigurationError):
    """A pipeline without steps was started."""

    def __init__(self, kind: str, fix: str) -> None:
        self.kind = kind
        super().__init__(f"The {kind} has no steps, so there is nothing to run; {fix}.")


class NoDagError(EmptyPipelineError):
    """A dataflow pipeline without tasks was started or drawn."""

    def __init__(self) -> None:
        self.kind = "dataflow pipeline"
        ConfigurationError.__init__(
            self,
            "No DAG built: this dataflow pipeline has no tasks; make it with "
            "DataflowPipeline.from_tasks(), or add tasks with add_dataflow_task().",
        )


class MapReduceShapeError(ConfigurationError):
    """A dataflow pipeline was started as a map-reduce, but it is none."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(
            f"This pipeline cannot run as a map-reduce: {why}. Declare one with "
            f".map(task, items, output) and .reduce(task, input_name, output)."
        )


class NotATaskError(ConfigurationError, TypeError):
    """Something was used as a step that is not a Taskiq task."""

    def __init__(self, value: object) -> None:
        self.value = value
        name = getattr(value, "__name__", None) or repr(value)
        super().__init__(
            f"{name!r} is not a Taskiq task; decorate the function with @broker.task "
            f"before it is used as a step."
        )


class NotABrokerError(ConfigurationError, TypeError):
    """Something was used as a broker that is none."""

    def __init__(self, value: object) -> None:
        self.value = value
        super().__init__(
            f"{value!r:.200} is not a Taskiq broker; hand over the broker object that the tasks "
            f"are registered on."
        )


class ForeignTaskError(ConfigurationError):
    """A step belongs to another broker than its pipeline."""

    def __init__(self, task_name: str) -> None:
        self.task_name = task_name
        super().__init__(
            f"Task {task_name!r} belongs to another broker than this pipeline; register it on the "
            f"pipeline's broker, or share it with @async_shared_broker.task."
        )


class ForeignPipelineError(ConfigurationError):
    """A pipeline of another broker was to run as a step."""

    def __init__(self, step: str) -> None:
        self.step = step
        super().__init__(
            f"Pipeline {step!r} belongs to another broker than the pipeline that it is a step of; "
            f"make it with the same broker."
        )


class MissingInputError(ConfigurationError):
    """A run was started without a value that one of its steps needs."""

    def __init__(self, needs: Mapping[str, Sequence[str]]) -> None:
        self.needs = {name: tuple(tasks) for name, tasks in needs.items()}
        listed = "; ".join(
            f"{name!r} (parameter of {', '.join(repr(t) for t in tasks)})"
            for name, tasks in self.needs.items()
        )
        super().__init__(f"Missing input {listed}: pass it by name when the pipeline is started.")


class UnknownInputError(ConfigurationError):
    """A run was started with a value that no step takes."""

    def __init__(self, names: Sequence[str], known: Sequence[str]) -> None:
        self.names, self.known = tuple(names), tuple(known)
        listed = ", ".join(repr(n) for n in self.names)
        have = ", ".join(repr(n) for n in self.known) or "none"
        super().__init__(
            f"Unknown input {listed}; the external inputs of this pipeline are: {have}."
        )


class PositionalInputError(ConfigurationError, TypeError):
    """A value without a name was given to a graph that has not exactly one place for it."""

    def __init__(self, given: int, known: Sequence[str]) -> None:
        self.given, self.known = given, tuple(known)
        have = ", ".join(repr(n) for n in self.known) or "none"
        super().__init__(
            f"{given} positional value{'' if given == 1 else 's'} cannot be matched to the "
            f"external inputs of this pipeline ({have}); pass values by name, or one dict of them."
        )


class BadArgumentsError(ConfigurationError, TypeError):
    """A step would be called with arguments that its function does not take."""

    def __init__(self, step: str, task_name: str, why: str) -> None:
        self.step, self.task_name, self.why = step, task_name, why
        super().__init__(f"Step {step!r} cannot call {task_name!r}: {why}.")


class BadItemsError(ConfigurationError, TypeError):
    """A map was given something that has no items, or something that is one item itself."""

    def __init__(self, step: str, type_name: str) -> None:
        self.step, self.type_name = step, type_name
        super().__init__(
            f"Step {step!r} was given a value of type {type_name!r} to map over; give it a list, "
            f"or another iterable that is neither text nor a mapping."
        )


class InvalidTaskOptionError(ConfigurationError):
    """An option of ``@pipeline_task`` has a value that cannot work."""

    def __init__(self, option: str, value: object, rule: str) -> None:
        self.option, self.value, self.rule = option, value, rule
        super().__init__(f"{option.capitalize()} {rule}, not {value!r}.")


class InvalidNameError(ConfigurationError):
    """The name of a run, a tag or an event has what not every store can keep."""

    def __init__(self, what: str, text: object, longest: int) -> None:
        self.what, self.text = what, text
        shown = repr(text[:40] + "…" if isinstance(text, str) and len(text) > 60 else text)
        super().__init__(
            f"{what} {shown} must be text of 1 to {longest:,} bytes of UTF-8, without NUL and "
            f"lone surrogates; choose another one, or a hash of it."
        )
