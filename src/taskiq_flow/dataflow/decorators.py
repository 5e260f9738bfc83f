"""The decorators that say what a task produces and consumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, asdict, replace
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, overload

from taskiq_flow.dataflow.caching import Caching, read_caching
from taskiq_flow.dataflow.options import (
    Inputs,
    Outputs,
    TaskOptions,
    add_resource,
    check_inputs,
    declare,
    read_outputs,
)
from taskiq_flow.limits import Limits, Rate, parse_rate, read_limits

TaskT = TypeVar("TaskT")
ExceptionTypes: TypeAlias = type[BaseException] | Sequence[type[BaseException]]


class Profile(Protocol):
    """A dataclass with what a task needs, such as `TaskResourceProfile`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Resources: TypeAlias = Mapping[str, Any] | Profile | None


class BaseTaskDecorator:
    """A decorator that notes something on a task and returns the task itself.

    Subclasses write `note`; they work on a function and on a decorated task alike.
    """

    def __call__(self, task: TaskT) -> TaskT:
        self.note(task)
        return task

    def note(self, task: Any) -> None:
        """Write down what this decorator says; called once, when it is applied."""


class CPUProfile(BaseTaskDecorator):
    """Notes how many cores a task wants; kept with its resources, not enforced."""

    def __init__(self, cpu_units: float = 1.0) -> None:
        self.cpu_units = cpu_units

    def note(self, task: Any) -> None:
        add_resource(task, "cpu_units", self.cpu_units)


class RAMProfile(BaseTaskDecorator):
    """Notes how many MiB of memory a task wants; kept with its resources, not enforced."""

    def __init__(self, ram_mb: float) -> None:
        self.ram_mb = ram_mb

    def note(self, task: Any) -> None:
        add_resource(task, "ram_mb", self.ram_mb)


@overload
def pipeline_task(output: Callable[..., Any]) -> Any: ...
@overload
def pipeline_task(
    output: str | None = None,
    *,
    outputs: Outputs | None = None,
    inputs: Inputs | None = None,
    retries: int | None = None,
    retry_delay: float = 1.0,
    retry_backoff: float = 2.0,
    retry_jitter: bool = True,
    max_retry_time: float = 300,
    resources: Resources = None,
    description: str | None = None,
    cache: Caching = None,
    limit: Limits = (),
    rate: Rate | None = None,
    timeout: float | None = None,
    retry_on: ExceptionTypes = (),
    no_retry_on: ExceptionTypes = (),
) -> Callable[[TaskT], TaskT]: ...
def pipeline_task(  # noqa: PLR0913 - each is one option
    output: str | Callable[..., Any] | None = None,
    *,
    outputs: Outputs | None = None,
    inputs: Inputs | None = None,
    retry_on: ExceptionTypes = (),
    no_retry_on: ExceptionTypes = (),
    resources: Resources = None,
    cache: Caching = None,
    limit: Limits = (),
    rate: Rate | None = None,
    **options: Any,
) -> Any:
    """Say what a task produces, what it consumes and how it is run.

    Works above and below ``@broker.task``. ``output`` names the one value that the task returns
    (without a name: the function's own); ``outputs`` names several, which the task returns as a
    dict with these keys or as a tuple in this order. ``inputs`` is read from the signature; give
    it to map data to parameters of another name (``{"parameter": "data"}``), or to name data that
    the task must only wait for.

    ``retries`` counts tries after the first. Left out, there are none, unless the pipeline has a
    retry policy; 0 turns that off for this task.

    ``limit`` and ``rate`` hold over all runs and workers: `limit(key="api", max=3)` lets three
    steps of that key run at once, ``rate="10/s"`` lets ten steps (or items) of this task start in
    a second. ``cache`` keeps results by code and arguments: True, seconds, or a `CachePolicy`.

    Raises:
        InvalidTaskOptionError: An option has a value that cannot work.
    """
    if callable(output):
        return pipeline_task()(output)
    declaration = replace(
        read_outputs(output, outputs),
        inputs=check_inputs(inputs),
        options=TaskOptions(
            retry_on=_exception_types(retry_on),
            no_retry_on=_exception_types(no_retry_on),
            resources=_as_mapping(resources),
            cache=read_caching(cache),
            limits=read_limits(limit),
            rate=None if rate is None else parse_rate(rate),
            **options,
        ),
    )

    def decorate(task: TaskT) -> TaskT:
        declare(task, declaration)
        return task

    return decorate


def pipeline_task_multi_output(outputs: Outputs, **options: Any) -> Callable[[TaskT], TaskT]:
    """Say that a task produces several data; takes the options of `pipeline_task`.

    The first name is the primary one, which stands for the task where only one fits.
    """
    return pipeline_task(outputs=outputs, **options)


def _as_mapping(resources: Resources) -> dict[str, Any]:
    """Hints on what a task needs, as they are kept; a profile is taken apart."""
    if resources is None:
        return {}
    return dict(resources) if isinstance(resources, Mapping) else asdict(resources)


def _exception_types(given: ExceptionTypes) -> tuple[type[BaseException], ...]:
    return (given,) if isinstance(given, type) else tuple(given)
