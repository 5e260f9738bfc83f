"""Records of runs as JSON values, and back: what steps returned keeps its type."""

from __future__ import annotations

import json
from typing import Any, cast

from taskiq_flow.codec import decode, encode
from taskiq_flow.exceptions import TaskiqFlowError
from taskiq_flow.tracking.models import PipelineStatus

_VALUES = ("result", "progress")


def dump_status(status: PipelineStatus) -> dict[str, Any]:
    """Make a dict of JSON values, for `json.dumps` or whatever else serialises such."""
    plain = status.model_dump(mode="json", exclude={"result", "steps"})
    plain["result"] = _to_json(status.result)
    plain["steps"] = [
        {
            **step.model_dump(mode="json", exclude=set(_VALUES)),
            **{name: _to_json(getattr(step, name)) for name in _VALUES},
        }
        for step in status.steps
    ]
    return plain


def load_status(plain: dict[str, Any]) -> PipelineStatus:
    """Make a record of what `dump_status` gave."""
    loaded = dict(plain)
    loaded["result"] = _from_json(plain.get("result"))
    steps = cast("list[dict[str, Any]]", plain.get("steps") or [])
    loaded["steps"] = [
        {**step, **{name: _from_json(step.get(name)) for name in _VALUES}} for step in steps
    ]
    return PipelineStatus.model_validate(loaded)


def _to_json(value: Any) -> Any:
    try:
        return json.loads(encode(value, where="a tracked value", limit=None))
    except TaskiqFlowError:
        # Set by a user on a record of their own; what steps return can always be stored.
        return repr(value)


def _from_json(plain: Any) -> Any:
    return decode(json.dumps(plain).encode())
