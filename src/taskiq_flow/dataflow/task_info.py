"""Everything the graph knows about one task, in one frozen record."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from taskiq_flow.dataflow.options import (
    Inputs,
    Outputs,
    TaskDeclaration,
    TaskOptions,
    check_inputs,
    declaration_of,
    options_of,
    read_outputs,
)
from taskiq_flow.dataflow.signature import (
    MISSING,
    AnyTask,
    InputParameter,
    TaskSignature,
    function_name,
    read_signature,
    task_function,
    task_name,
)
from taskiq_flow.exceptions import InputBindingError


class InputBinding(NamedTuple):
    """Which datum one parameter receives; without it, an optional one keeps its default."""

    parameter: str
    data: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What one task takes, gives and asks for.

    ``after`` names data that the task waits for without receiving them. A record written by hand
    may describe its parameters as ``{"name": {"type": ..., "default": ...}}``.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, InputParameter] = field(default_factory=dict[str, InputParameter])
    outputs: tuple[str, ...] = ()
    multiple_outputs: bool = False
    output_types: Mapping[str, Any] = field(default_factory=dict[str, Any])
    bindings: tuple[InputBinding, ...] = ()
    after: tuple[str, ...] = ()
    return_annotation: Any = MISSING
    context_parameters: tuple[str, ...] = ()
    task_name: str = ""
    func: Callable[..., Any] | None = None
    options: TaskOptions = field(default_factory=TaskOptions)

    def __post_init__(self) -> None:
        parameters = {name: _parameter(name, p) for name, p in self.parameters.items()}
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "outputs", tuple(self.outputs))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The data without which the task cannot start, in the order of its parameters."""
        needed = [b.data for b in self.bindings if b.is_required]
        return tuple(dict.fromkeys((*needed, *self.after)))

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """The data that the task takes where there are any, else its parameter's default."""
        return tuple(b.data for b in self.bindings if not b.is_required)

    @property
    def defaults(self) -> dict[str, Any]:
        return {n: p.default for n, p in self.parameters.items() if not p.is_required}

    @property
    def annotations(self) -> dict[str, Any]:
        return {n: p.annotation for n, p in self.parameters.items() if p.annotation is not MISSING}


def read_task(
    task: AnyTask,
    *,
    output: str | None = None,
    outputs: Outputs | None = None,
    inputs: Inputs | None = None,
    context_by_name: bool = False,
) -> TaskInfo:
    """Read a task; what is given here goes before what its decorator says.

    A task that declares no output gives the one that has its function's name.

    Raises:
        NotATaskError: This is neither a task nor a function.
        InputBindingError: Declared inputs fit no parameter.
    """
    name = function_name(task)
    function = task_function(task)
    declared = declaration_of(task) or _NOTHING_DECLARED
    given = read_outputs(output, outputs)
    names = given if given.outputs else declared
    signature = (
        TaskSignature(takes_keywords=True)
        if function is None
        else read_signature(function, context_by_name=context_by_name)
    )
    wanted = declared.inputs if inputs is None else check_inputs(inputs)
    bindings, after = _bind(name, signature, wanted)
    options = options_of(task)
    return TaskInfo(
        name=name,
        description=options.description or _first_line(function),
        parameters={p.name: p for p in signature.inputs},
        outputs=names.outputs or (name,),
        multiple_outputs=names.multiple_outputs,
        output_types=names.output_types,
        bindings=bindings,
        after=after,
        return_annotation=signature.returns,
        context_parameters=signature.context,
        task_name=task_name(task),
        func=function,
        options=options,
    )


_NOTHING_DECLARED = TaskDeclaration()


def _bind(
    task: str, signature: TaskSignature, declared: Inputs | None
) -> tuple[tuple[InputBinding, ...], tuple[str, ...]]:
    """Match declared data to parameters; a parameter that is not mentioned takes its own name."""
    known = {p.name: p for p in signature.inputs}
    if isinstance(declared, Mapping):
        chosen = dict(declared)
        strange = [parameter for parameter in chosen if parameter not in known]
        if strange and not signature.takes_keywords:
            raise InputBindingError(task, strange, [p for p in known if p not in chosen])
        after: list[str] = []
    else:
        chosen, after = _match_by_order(task, signature, declared or ())
    extra = [p for p in chosen if p not in known]
    bindings = [
        InputBinding(p.name, chosen.get(p.name, p.name), p.is_required) for p in signature.inputs
    ]
    return (*bindings, *(InputBinding(p, chosen[p], True) for p in extra)), tuple(after)


def _match_by_order(
    task: str, signature: TaskSignature, declared: Inputs
) -> tuple[dict[str, str], list[str]]:
    known = {p.name for p in signature.inputs}
    strange = [name for name in declared if name not in known]
    if not strange:
        return {}, []
    if signature.takes_keywords:
        return {name: name for name in strange}, []
    free = [p.name for p in signature.inputs if p.is_required and p.name not in declared]
    if not free:
        # Every parameter has its datum, so these are only waited for.
        return {}, strange
    if len(free) != len(strange):
        raise InputBindingError(task, strange, free)
    return dict(zip(free, strange, strict=True)), []


def _parameter(name: str, described: InputParameter | Mapping[str, Any]) -> InputParameter:
    if isinstance(described, InputParameter):
        return described
    return InputParameter(name, described.get("type", MISSING), described.get("default", MISSING))


def _first_line(function: Callable[..., Any] | None) -> str | None:
    text = inspect.getdoc(function) if inspect.isroutine(function) else None
    return text.strip().partition("\n")[0] or None if text else None
