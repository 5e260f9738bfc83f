"""Turns what users write into plans; pure, so a pipeline can be checked without a broker."""

from taskiq_flow.compile.builtin import BUILTINS, StepOption
from taskiq_flow.compile.chain import (
    After,
    Group,
    Link,
    Map,
    Next,
    Shape,
    compile_chain,
)
from taskiq_flow.compile.compiled import Compiled, InputSlot, StartValues, encode_items
from taskiq_flow.compile.graph import GraphUse, MapOver, ReduceOver, build_graph, compile_graph
from taskiq_flow.compile.inputs import ExternalInputs
from taskiq_flow.compile.policies import (
    DEFAULT_RETRY,
    ExceptionKinds,
    OnError,
    Policies,
    check_retry,
    names_of,
    positive,
)
from taskiq_flow.compile.reduction import Reduction
from taskiq_flow.compile.uses import AsyncTask, Routing, SyncTask, TaskUse, constant, use_task
from taskiq_flow.compile.view import plan_view

__all__ = [
    "BUILTINS",
    "DEFAULT_RETRY",
    "After",
    "AsyncTask",
    "Compiled",
    "ExceptionKinds",
    "ExternalInputs",
    "GraphUse",
    "Group",
    "InputSlot",
    "Link",
    "Map",
    "MapOver",
    "Next",
    "OnError",
    "Policies",
    "ReduceOver",
    "Reduction",
    "Routing",
    "Shape",
    "StartValues",
    "StepOption",
    "SyncTask",
    "TaskUse",
    "build_graph",
    "check_retry",
    "compile_chain",
    "compile_graph",
    "constant",
    "encode_items",
    "names_of",
    "plan_view",
    "positive",
    "use_task",
]
