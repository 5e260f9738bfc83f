"""Turns what users write into plans; pure, so a pipeline can be checked without a broker."""

from taskiq_flow.compile.branches import Ways, case_keys
from taskiq_flow.compile.builtin import BUILTINS, MERGE, StepOption
from taskiq_flow.compile.chain import compile_chain
from taskiq_flow.compile.children import Child, Continue, Startable, continuation
from taskiq_flow.compile.compiled import Compiled, InputSlot, StartValues, encode_items
from taskiq_flow.compile.graph import GraphUse, MapOver, ReduceOver, build_graph, compile_graph
from taskiq_flow.compile.inputs import ExternalInputs
from taskiq_flow.compile.links import (
    After,
    Arm,
    Branch,
    ChildPlan,
    ChildUse,
    Compensate,
    Group,
    Link,
    Map,
    Next,
    Reduce,
    Shape,
    Sleep,
    Use,
    WaitFor,
)
from taskiq_flow.compile.policies import (
    DEFAULT_RETRY,
    OnError,
    Policies,
    check_retry,
)
from taskiq_flow.compile.reduction import Reduction
from taskiq_flow.compile.uses import AsyncTask, Routing, SyncTask, TaskUse, constant, use_task
from taskiq_flow.compile.view import plan_view
from taskiq_flow.model.retry import ExceptionKinds, names_of

__all__ = [
    "BUILTINS",
    "DEFAULT_RETRY",
    "MERGE",
    "After",
    "Arm",
    "AsyncTask",
    "Branch",
    "Child",
    "ChildPlan",
    "ChildUse",
    "Compensate",
    "Compiled",
    "Continue",
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
    "Reduce",
    "ReduceOver",
    "Reduction",
    "Routing",
    "Shape",
    "Sleep",
    "StartValues",
    "Startable",
    "StepOption",
    "SyncTask",
    "TaskUse",
    "Use",
    "WaitFor",
    "Ways",
    "build_graph",
    "case_keys",
    "check_retry",
    "compile_chain",
    "compile_graph",
    "constant",
    "continuation",
    "encode_items",
    "names_of",
    "plan_view",
    "use_task",
]
