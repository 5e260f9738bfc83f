"""Take apart what a task with several outputs returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from taskiq_flow.exceptions import OutputShapeError


def split_outputs(task: str, outputs: Sequence[str], value: Any) -> dict[str, Any]:
    """Return the outputs by name: from a mapping by key, from a tuple or list in order.

    Further keys of a mapping are left out.

    Raises:
        OutputShapeError: A key is missing, the number is wrong, or it is something else.
    """
    if isinstance(value, Mapping):
        by_name = cast("Mapping[str, Any]", value)
        missing = [name for name in outputs if name not in by_name]
        if missing:
            listed = ", ".join(repr(name) for name in missing)
            raise OutputShapeError(task, outputs, f"returned a dict without {listed}")
        return {name: by_name[name] for name in outputs}
    if isinstance(value, (tuple, list)):
        in_order = cast("Sequence[Any]", value)
        if len(in_order) != len(outputs):
            why = f"returned {len(in_order)} value{'' if len(in_order) == 1 else 's'}"
            raise OutputShapeError(task, outputs, why)
        return dict(zip(outputs, in_order, strict=True))
    raise OutputShapeError(task, outputs, f"returned a {type(value).__name__}")
