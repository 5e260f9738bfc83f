"""Every exception of Taskiq-Flow, in one tree whose root is a ``TaskiqError``."""

from __future__ import annotations

import asyncio
import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskiq.exceptions import ResultGetError as HostResultGetError
from taskiq.exceptions import ResultIsReadyError as HostResultIsReadyError
from taskiq.exceptions import TaskiqError, TaskiqResultTimeoutError

if TYPE_CHECKING:
    from taskiq.result import TaskiqResult


class TaskiqFlowError(TaskiqError):
    """Root of all errors that Taskiq-Flow raises on purpose."""

    def __init__(self, message: str) -> None:
        # Taskiq's own errors are keyword records with a template; ours write their sentence.
        self.message = message
        Exception.__init__(self, message)

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"


class ConfigurationError(TaskiqFlowError, ValueError):
    """Something was set up in a way that cannot work; nothing was stored or sent."""

    # Spelled out here and below: for a type checker Taskiq's errors are records without it.
    def __init__(self, message: str) -> None:
        super().__init__(message)


class MissingExtraError(ConfigurationError, ImportError):
    """A part of Taskiq-Flow was used whose optional packages are not installed."""

    def __init__(self, feature: str, extra: str, package: str) -> None:
        self.feature, self.extra, self.package = feature, extra, package
        super().__init__(
            f"{feature} needs the package {package!r}, which is not installed: "
            f"pip install 'taskiq-flow[{extra}]'."
        )


class NotShippedError(ConfigurationError, ImportError):
    """A documented name of another system was imported that Taskiq-Flow replaces."""

    def __init__(self, name: str, instead: str) -> None:
        self.name, self.instead = name, instead
        super().__init__(f"{name} is not part of Taskiq-Flow; use {instead}.")


class UnsupportedHostError(ConfigurationError):
    """The installed Taskiq lacks something that the engine leans on."""

    def __init__(self, what: str, fix: str) -> None:
        self.what, self.fix = what, fix
        super().__init__(f"This Taskiq cannot run pipelines: {what}. {fix}")


# --- building a pipeline -------------------------------------------------------------------


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


class DuplicatePipelineError(ConfigurationError):
    """A run of this name has not ended, so another one was not started."""

    def __init__(self, name: str, run_id: str) -> None:
        self.name, self.run_id = name, run_id
        super().__init__(
            f"A run named {name!r} is still going (run {run_id}); wait for it, cancel it, "
            f"or start this one under another id."
        )


# --- running ------------------------------------------------------------------------------


class PipelineError(TaskiqFlowError):
    """A run ended without its result: a step failed, or the run was cancelled.

    ``__cause__`` is the step's own exception where it could be rebuilt.
    """

    def __init__(
        self,
        message: str,
        *,
        run_id: str | None = None,
        failed_step: str | None = None,
        partial_results: Mapping[str, Any] | None = None,
        result: TaskiqResult[Any] | None = None,
    ) -> None:
        self.run_id = run_id
        self.failed_step = failed_step
        self.partial_results: dict[str, Any] = dict(partial_results or {})
        self.result = result
        super().__init__(message)


class PipelineCancelledError(PipelineError):
    """The run was cancelled before it could complete."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)


class PipelineTimeoutError(TaskiqResultTimeoutError, PipelineError, asyncio.TimeoutError):
    """A wait, or a run with ``with_timeout``, took longer than it may.

    A wait that timed out does not cancel its run.
    """

    def __init__(self, message: str, *, timeout: float | None = None, **facts: Any) -> None:
        self.timeout = timeout
        PipelineError.__init__(self, message, **facts)

    def __str__(self) -> str:
        return self.message


class AbortPipeline(TaskiqFlowError):  # noqa: N818 - the documented name
    """Raised by a step to end its run as CANCELLED, with a reason."""

    def __init__(self, reason: str = "aborted by a step") -> None:
        self.reason = reason
        super().__init__(reason)


class ContextUseError(TaskiqFlowError, LookupError):
    """A step asked its context for something that it cannot have."""

    def __init__(self, step: str, why: str) -> None:
        self.step, self.why = step, why
        super().__init__(f"The context of step {step!r} cannot answer: {why}.")


class StepFailedError(TaskiqFlowError):
    """Stands for a step's exception whose type is not rebuilt from storage."""

    def __init__(self, type_name: str, text: str, traceback_text: str = "") -> None:
        self.type_name, self.text, self.traceback_text = type_name, text, traceback_text
        super().__init__(f"{type_name}: {text}" if text else type_name)


class StepTimeoutError(TaskiqFlowError, asyncio.TimeoutError):
    """A step ran longer than its ``timeout``."""

    def __init__(self, step: str, timeout_seconds: float) -> None:
        self.step, self.timeout_seconds = step, timeout_seconds
        super().__init__(f"Step {step!r} ran longer than its timeout of {timeout_seconds:g} s.")


class OutputShapeError(TaskiqFlowError, ValueError):
    """A task with several outputs returned something that they cannot be read from."""

    def __init__(self, task: str, outputs: Sequence[str], why: str) -> None:
        self.task, self.outputs, self.why = task, tuple(outputs), why
        super().__init__(
            f"Task {task!r} declares the outputs {', '.join(repr(o) for o in self.outputs)} but "
            f"{why}; return a dict with these keys, or a tuple in this order."
        )


class NotIterableError(TaskiqFlowError, TypeError):
    """A map or filter step was given something that has no items."""

    def __init__(self, step: str, type_name: str) -> None:
        self.step, self.type_name = step, type_name
        super().__init__(
            f"Step {step!r} maps over the previous result, but that is a {type_name}; "
            f"return a list (or another iterable) from the step before it."
        )


class FanOutError(TaskiqFlowError, ValueError):
    """A map step was given more items than one step may have."""

    def __init__(self, step: str, items: int, limit: int) -> None:
        self.step, self.items, self.limit = step, items, limit
        super().__init__(
            f"Step {step!r} would map over {items:,} items; the limit is {limit:,}. Map over "
            f"batches of items, or raise TASKIQ_FLOW_MAX_FAN_OUT."
        )


class UnknownTaskError(TaskiqFlowError):
    """No live worker has the task that a step names."""

    def __init__(self, task_name: str, waited_seconds: float) -> None:
        self.task_name, self.waited_seconds = task_name, waited_seconds
        super().__init__(
            f"Task {task_name!r} is unknown to every live worker ({waited_seconds:.0f} s after the "
            f"step became ready); deploy a worker that imports it, then retry the run."
        )


class PoisonStepError(TaskiqFlowError):
    """A step took its worker down too often."""

    def __init__(self, step: str, lost: int) -> None:
        self.step, self.lost = step, lost
        super().__init__(
            f"Step {step!r} lost its worker {lost} times (killed, out of memory, or cut off) and "
            f"will not be tried again; look for a crash in that step, then retry the run."
        )


class NoCaseError(TaskiqFlowError, LookupError):
    """A branch has no case for the value that chooses, and no default."""

    def __init__(self, step: str, value: object, cases: Sequence[object]) -> None:
        self.step, self.value, self.cases = step, value, tuple(cases)
        listed = ", ".join(repr(case) for case in self.cases)
        super().__init__(
            f"Branch {step!r} has no case for {value!r}; its cases are {listed}. Add one, or a "
            f"default."
        )


class ConditionError(TaskiqFlowError, TypeError):
    """A condition cannot compare the value with what it was given."""

    def __init__(self, condition: str, type_name: str, why: str) -> None:
        self.condition, self.type_name, self.why = condition, type_name, why
        super().__init__(
            f"The condition {condition} cannot be asked of a value of type {type_name!r}: {why}."
        )


class EventTimeoutError(TaskiqFlowError, asyncio.TimeoutError):
    """A step waited for an event that did not come in time."""

    def __init__(
        self, step: str, event: str | None = None, timeout_seconds: float | None = None
    ) -> None:
        self.step, self.event, self.timeout_seconds = step, event, timeout_seconds
        time = "" if timeout_seconds is None else f" {timeout_seconds:g} s"
        what = "an event" if event is None else f"the event {event!r}"
        super().__init__(
            f"Step {step!r} waited{time} for {what}, which did not come; send it to the run with "
            f"send_event(), or raise the timeout of wait_for()."
        )


class RunEndedError(TaskiqFlowError):
    """A run that has ended was sent an event."""

    def __init__(self, run_id: str, event: str, status: str) -> None:
        self.run_id, self.event, self.status = run_id, event, status
        super().__init__(
            f"The event {event!r} was not delivered: run {run_id} has ended ({status})."
        )


class ChildInputError(TaskiqFlowError, TypeError):
    """A step hands a value to a child run that needs a dict of its inputs."""

    def __init__(self, step: str, names: Sequence[str], type_name: str) -> None:
        self.step, self.names, self.type_name = step, tuple(names), type_name
        listed = ", ".join(repr(name) for name in self.names)
        super().__init__(
            f"Step {step!r} starts a pipeline with the inputs {listed}, so it needs a dict of them "
            f"from the step before it, not a value of type {type_name!r}."
        )


class ChildRunError(PipelineError):
    """The child run of a step failed or was cancelled; ``run_id`` is the child's."""

    def __init__(self, step: str, run_id: str, how: str, **facts: Any) -> None:
        self.step = step
        super().__init__(
            f"Step {step!r} ran pipeline {run_id}, which {how}", run_id=run_id, **facts
        )


# --- storing ------------------------------------------------------------------------------


class StoreError(TaskiqFlowError):
    """The run store refused or failed."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class StoreUnavailableError(StoreError, ConnectionError):
    """The run store cannot be reached; nothing was changed."""

    def __init__(self, url: str, why: str) -> None:
        self.url, self.why = url, why
        super().__init__(f"The run store {url} cannot be reached ({why}); nothing was changed.")


class StoreFormatError(StoreError):
    """The store was written by another version of Taskiq-Flow."""

    def __init__(self, url: str, found: str, expected: str) -> None:
        self.url, self.found, self.expected = url, found, expected
        super().__init__(
            f"The run store {url} has format {found}, this version needs {expected}; "
            f"run: taskiq-flow migrate --store {url}"
        )


class StoreUrlError(ConfigurationError):
    """A store URL names no kind of store that exists."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(
            f"{url!r} is not a store URL; use memory://, redis://host:port/db, "
            f"sqlite:///file.db or postgresql://user@host/database."
        )


class NoStoreError(ConfigurationError):
    """A broker with several processes was used without a store they can share."""

    def __init__(self, broker: str) -> None:
        self.broker = broker
        super().__init__(
            f"{broker} has workers in other processes, so its runs need a store that they share; "
            f"set TASKIQ_FLOW_STORE_URL, or pass PipelineMiddleware(store=...), for example "
            f"redis://localhost:6379/0 or postgresql://user@host/database."
        )


class StorageUseError(ConfigurationError):
    """A storage was given a key, pattern, time or option that it cannot take."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"{name}={reprlib.repr(value)} {rule}.")


class StorageUnavailableError(TaskiqFlowError, ConnectionError):
    """The database of a storage does not answer, or refuses."""

    def __init__(self, address: str, why: str) -> None:
        self.address, self.why = address, why
        super().__init__(f"The storage {address} cannot be used ({why}).")


class StorageDecryptionError(TaskiqFlowError):
    """A stored value was not encrypted with any of the keys, or not under this name."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"The value of {reprlib.repr(key)} cannot be decrypted: it was written with a key that "
            f"is not given, without encryption, or under another name. Add the older key after "
            f"the new one, or delete the value."
        )


class RunNotFoundError(TaskiqFlowError, LookupError):
    """No run has this id, or its record has expired."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"No run has the id {run_id!r}; it never existed, or its record has expired."
        )


class RunNotEndedError(TaskiqFlowError):
    """A run was to be retried, forked or deleted that still goes on."""

    def __init__(self, run_id: str, status: str) -> None:
        self.run_id, self.status = run_id, status
        super().__init__(
            f"Run {run_id} is {status}; wait for its end, or cancel it, before it is made into "
            f"a new one or removed."
        )


class NotADeadLetterError(TaskiqFlowError, LookupError):
    """A run was treated as a dead letter that has not failed."""

    def __init__(self, run_id: str, status: str) -> None:
        self.run_id, self.status = run_id, status
        super().__init__(
            f"Run {run_id} is {status}, and only FAILED runs are dead letters; steer it with "
            f"Task(task_id=..., broker=...)."
        )


class NothingToRunError(ConfigurationError):
    """A new run was to be made of one of which every step completed."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"Every step of run {run_id} completed, so there is nothing to run again; name a "
            f"step, fork(from_step=...), or change inputs= or outputs=."
        )


class UnknownStepError(ConfigurationError, LookupError):
    """A step was named that a run has not got."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        shown = ", ".join(repr(step) for step in self.known[:20])
        more = f" and {len(self.known) - 20} more" if len(self.known) > 20 else ""
        super().__init__(f"The run has no step {name!r}; its steps are: {shown}{more}.")


class ForkOutputError(ConfigurationError):
    """One of several outputs of a step was changed, and the run has not got the others."""

    def __init__(self, step: str, missing: Sequence[str]) -> None:
        self.step, self.missing = step, tuple(missing)
        listed = ", ".join(repr(name) for name in self.missing)
        super().__init__(
            f"Step {step!r} has several outputs and did not complete, so all of them have to be "
            f"given; missing: {listed}."
        )


class TrackingError(TaskiqFlowError):
    """Tracking was used in a way that cannot work."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class NoTrackingStorageError(TrackingError, RuntimeError):
    """Tracking was asked before it was told where to look."""

    def __init__(self) -> None:
        super().__init__(
            "No tracking storage configured; call with_auto_storage(broker) or with_storage(...) "
            "first, or attach the manager with pipeline.with_tracking(manager)."
        )


class TrackingStorageError(TrackingError, TypeError):
    """What was given as a tracking storage or listener lacks what is called on it."""

    def __init__(self, given: object, role: str, lacks: str) -> None:
        self.given, self.lacks = given, lacks
        super().__init__(f"{given!r} cannot be a tracking {role}: it lacks {lacks}.")


class TrackingQueryError(TrackingError, ValueError):
    """A question to the history makes no sense."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"{name}={value!r} {rule}.")


class TaskNotFoundError(TaskiqFlowError, LookupError):
    """A task was asked for that is not registered."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"No task {name!r} is registered.")


# --- results and progress -------------------------------------------------------------------


class ResultGetError(TaskiqFlowError, HostResultGetError):
    """A result backend cannot give the result of a task."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class ResultNotFoundError(ResultGetError, LookupError):
    """There is no result of a task, or none any more."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(
            f"There is no result of task {task_id!r}: it has not ended, keeps none, or its result "
            f"has expired."
        )


class ResultIsReadyError(TaskiqFlowError, HostResultIsReadyError):
    """A result backend cannot say whether a task has a result."""

    def __init__(self, task_id: str, why: object) -> None:
        self.task_id, self.why = task_id, why
        super().__init__(f"Whether task {task_id!r} has a result cannot be said: {why}.")


class ResultOptionError(ConfigurationError):
    """A result backend was made with an option that makes no sense."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"{name}={value!r} {rule}.")


class ProgressError(ConfigurationError):
    """Progress was reported that is no progress."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"{name}={value!r} {rule}.")


# --- values and errors as bytes -------------------------------------------------------------


class UnserializableValueError(ConfigurationError):
    """A step was given, or returned, a value that cannot be stored."""

    def __init__(self, where: str, path: str, type_name: str, why: str) -> None:
        self.where, self.path, self.type_name, self.why = where, path, type_name, why
        super().__init__(f"The {where} cannot be stored: {path} is a {type_name}; {why}.")


class PayloadTooLargeError(ConfigurationError):
    """A value is larger, once encoded, than a value may be."""

    def __init__(self, where: str, size: int, limit: int, fix: str) -> None:
        self.where, self.size, self.limit, self.fix = where, size, limit, fix
        super().__init__(f"The {where} takes {size:,} bytes; the limit is {limit:,}. {fix}.")


class UndecodableValueError(TaskiqFlowError, ValueError):
    """Stored bytes cannot be turned back into the value that was asked for."""

    def __init__(self, wanted: str, why: str) -> None:
        self.wanted, self.why = wanted, why
        super().__init__(f"A stored value cannot be read as {wanted}: {why}.")


class CodecRegistrationError(ConfigurationError):
    """A codec or an exception type was registered that could not be told apart, or not rebuilt."""

    def __init__(self, type_name: str, why: str) -> None:
        self.type_name, self.why = type_name, why
        super().__init__(f"{type_name} cannot be registered: {why}.")


class DuplicateTickError(ConfigurationError):
    """A schedule's tick has fired before; the run was not created again."""

    def __init__(self, tick: str) -> None:
        self.tick = tick
        super().__init__(f"The tick {tick!r} has fired before.")


class BacklogFullError(ConfigurationError):
    """A queue holds as many waiting runs as it may; nothing was stored."""

    def __init__(self, key: str, most: int) -> None:
        self.key, self.most = key, most
        super().__init__(
            f"Queue {key!r} is full: {most} runs wait already. Try again later, or raise its limit."
        )


class AmbiguousRunError(TaskiqFlowError, LookupError):
    """The end of an id fits several runs."""

    def __init__(self, ending: str, run_ids: Sequence[str]) -> None:
        self.ending, self.run_ids = ending, tuple(run_ids)
        super().__init__(
            f"{len(run_ids)} runs have an id that ends with {ending!r}; give more of it: "
            f"{', '.join(run_ids[:5])}."
        )


class OperationError(TaskiqFlowError):
    """What an operator asked for cannot be shown or done here."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class SecurityError(TaskiqFlowError):
    """Somebody may not do what they asked for."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class NotAuthenticatedError(SecurityError):
    """Nobody is known to be asking: no valid token, key or session came along."""

    def __init__(self, why: str = "no valid token, key or session came with it") -> None:
        self.why = why
        super().__init__(f"This needs a login: {why}.")


class NotAllowedError(SecurityError, PermissionError):
    """Somebody is known, and may not do this."""

    def __init__(self, name: str, what: str, why: str) -> None:
        self.name, self.what = name, what
        super().__init__(f"{name} may not {what}: {why}.")


class TooManyAttemptsError(SecurityError):
    """Somebody asked too often."""

    def __init__(self, what: str, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"Too many {what}; try again in {retry_after_seconds:.0f} s.")


class SecurityOptionError(ConfigurationError):
    """An option of the security settings cannot work."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"{name}={reprlib.repr(value)} {rule}.")


class NoStoreGivenError(ConfigurationError):
    """The command line was asked about runs, and not told where they live."""

    def __init__(self) -> None:
        super().__init__(
            "No store was named, and no runs were started in this directory; give --store URL or "
            "set TASKIQ_FLOW_STORE_URL, for example redis://localhost:6379/0 or sqlite:///runs.db."
        )


class TargetError(ConfigurationError):
    """What the command line was to run or draw could not be had."""

    def __init__(self, target: str, why: str, fix: str) -> None:
        self.target, self.why, self.fix = target, why, fix
        super().__init__(f"{target!r} cannot be used: {why}. {fix}")


class BrokerUnavailableError(TaskiqFlowError, ConnectionError):
    """A broker did not start: its server does not answer, or refuses."""

    def __init__(self, broker: str, why: str) -> None:
        self.broker, self.why = broker, why
        super().__init__(
            f"The broker {broker} cannot be used ({why}); check its address, and that its server "
            f"runs."
        )


class BadInputError(ConfigurationError):
    """An input was given on the command line in a form that cannot be read."""

    def __init__(self, option: str, text: str, rule: str) -> None:
        self.option, self.text = option, text
        super().__init__(f"{option} {reprlib.repr(text)} {rule}.")


class ScheduleError(ConfigurationError):
    """A schedule cannot be; nothing was stored."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"The schedule's {name} {value!r} {rule}.")


class JobNotFoundError(TaskiqFlowError, LookupError):
    """There is no scheduled job of this id."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"There is no scheduled job {job_id!r}; `list_jobs()` shows those that there are "
            f"(a job that is to run once goes when it has run)."
        )


class DuplicateJobError(ConfigurationError):
    """A job of this id is scheduled already, and was not to be replaced."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"A job {job_id!r} is scheduled already; choose another job_id, or let "
            f"replace_existing=True change it."
        )
