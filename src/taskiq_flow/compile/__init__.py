"""Turns what users write into plans; pure, so a pipeline can be checked without a broker."""

from taskiq_flow.compile.branches import Ways, case_keys
from taskiq_flow.compile.builtin import BUILTINS, MERGE, StepOption
from taskiq_flow.compile.chain import compile_chain
from taskiq_flow.compile.children import Child, Continue, Startable, continuation
from taskiq_flow.compile.compiled import Compiled, InputSlot, StartValues, encode_items
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
    "Group",
    "InputSlot",
    "Link",
    "Map",
    "Next",
    "OnError",
    "Policies",
    "Reduce",
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
    "case_keys",
    "check_retry",
    "compile_chain",
    "constant",
    "continuation",
    "encode_items",
    "names_of",
    "use_task",
]
