"""Turns stored values into JSON that a page can show: redacted, and never more than a bounded part.

What is shown is the stored form itself: no codec is called and nothing is rebuilt, so a hostile
value does nothing here, and values of classes that this process does not know can be seen too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from taskiq_flow.exceptions import EventTimeoutError, PoisonStepError
from taskiq_flow.model.records import ItemMark, StepSnapshot
from taskiq_flow.model.transitions import DEADLINE_ERROR, EVENT_TIMEOUT_ERROR, POISON_ERROR
from taskiq_flow.operations.models import ErrorView, Preview
from taskiq_flow.plan import PlanStep

Redact: TypeAlias = Callable[[str, Any], Any]
"""Is asked for each value by its dotted path, such as ``inputs.user.password``; returns what is
shown of it. It sees containers before what is in them."""

PARSED_BYTES = 1024 * 1024
"""A longer value is not looked into: only its size is shown."""

MASK = "•••"

_SECRET_WORDS = (
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "authorization",
    "credential",
    "private_key",
    "cookie",
)


def redact_secrets(path: str, value: Any) -> Any:
    """Mask what is called like a secret: passwords, tokens, keys, cookies."""
    name = path.rpartition(".")[2].lower().replace("-", "_")
    return MASK if any(word in name for word in _SECRET_WORDS) and value is not None else value


@dataclass(frozen=True, slots=True)
class Cut:
    """How much of a value is shown: so many values, so many characters a text, so deep."""

    values: int = 200
    text: int = 2_000
    depth: int = 6


SMALL, LARGE = Cut(), Cut(values=5_000, text=50_000, depth=20)


@dataclass(frozen=True, slots=True)
class Previewer:
    """Makes previews; raises nothing, whatever the bytes are."""

    redact: Redact = redact_secrets
    cut: Cut = SMALL

    @property
    def large(self) -> Previewer:
        """One that shows much more of a value."""
        return replace(self, cut=LARGE)

    def of_bytes(self, path: str, data: bytes) -> Preview:
        """A value as it is stored."""
        if len(data) > PARSED_BYTES:
            return Preview(None, "large", len(data), is_cut=True)
        try:
            stored: Any = json.loads(data)
        except (ValueError, RecursionError):
            return Preview(None, "unreadable", len(data), is_cut=True)
        return self._of(path, stored, len(data))

    def of_part(self, path: str, data: bytes, part: str | int | None) -> Preview:
        """One part of a stored dict or list; all of it where no part is named."""
        if part is None or len(data) > PARSED_BYTES:
            return self.of_bytes(path, data)
        try:
            whole, _ = _untagged(json.loads(data))
            return self._of(path, whole[part], len(data))
        except (ValueError, RecursionError, LookupError, TypeError):
            return Preview(None, "missing", len(data))

    def of_value(self, path: str, value: Any) -> Preview:
        """A JSON value."""
        return self._of(path, value, 0)

    def of_items(self, path: str, entries: Sequence[bytes | None], length: int) -> Preview:
        """The first items of a sequence, each with its mark."""
        # What was filtered out, or failed where errors are skipped, is no part of the output.
        there = [entry for entry in entries if entry and entry[:1] != ItemMark.DROPPED]
        values = [self._item(entry) for entry in there]
        shown = self._of(path, values, sum(len(entry or b"") for entry in entries))
        return replace(
            shown, type="list", length=length, is_cut=shown.is_cut or len(entries) < length
        )

    def of_item(self, path: str, entry: bytes) -> Preview:
        """One item, with its mark."""
        return self.of_bytes(path, entry[1:])

    def text(self, path: str, text: str) -> str:
        """Text that is no value: a log line, a message, a traceback."""
        return _sendable(str(self.redact(path, text)))

    def error(self, data: bytes | None, step: PlanStep | None, path: str) -> ErrorView | None:
        """A stored error, or the code of one that the store recorded."""
        if data is None:
            return None
        kind, message, trace = _error_parts(data, step)
        return ErrorView(
            kind,
            self.text(f"{path}.message", message),
            self.text(f"{path}.traceback", trace) if trace else "",
            None if step is None else step.name,
        )

    def step_error(self, known: StepSnapshot | None, step: PlanStep) -> ErrorView | None:
        """The error of a step, if it has one."""
        return None if known is None else self.error(known.error, step, f"errors.{step.name}")

    def progress(self, known: StepSnapshot | None) -> Mapping[str, Any] | None:
        """What a step has said of its progress."""
        if known is None or known.progress is None:
            return None
        value = self.of_bytes(f"progress.{known.name}", known.progress).value
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {"message": value}

    def _item(self, entry: bytes) -> Any:
        if entry[:1] != ItemMark.VALUE:
            return None
        try:
            return json.loads(entry[1:]) if len(entry) <= PARSED_BYTES else None
        except (ValueError, RecursionError):
            return None

    def _of(self, path: str, stored: Any, size: int) -> Preview:
        walk = _Walk(self.redact, self.cut)
        value = walk.value(path, stored, 0)
        inner, kind = _untagged(stored)
        sized = isinstance(inner, (str, list, dict))
        return Preview(
            value=value,
            type=kind,
            size=size,
            length=len(cast("Sequence[Any]", inner)) if sized else None,
            is_cut=walk.is_cut,
        )


class _Walk:
    """One walk through a value, which ends when enough has been seen."""

    def __init__(self, redact: Redact, cut: Cut) -> None:
        self.redact, self.cut, self.left, self.is_cut = redact, cut, cut.values, False

    def value(self, path: str, stored: Any, depth: int) -> Any:
        inner, _ = _untagged(stored)
        shown = self.redact(path, inner)
        self.left -= 1
        if isinstance(shown, str):
            return self._text(shown)
        if isinstance(shown, list):
            return self._list(path, cast("list[Any]", shown), depth)
        if isinstance(shown, dict):
            return self._dict(path, cast("dict[Any, Any]", shown), depth)
        if isinstance(shown, float) and not math.isfinite(shown):
            return str(shown)  # JSON has none
        if shown is None or isinstance(shown, (bool, int, float)):
            return shown
        return self._text(str(shown))

    def _text(self, text: str) -> str:
        text = _sendable(text)
        if len(text) <= self.cut.text:
            return text
        self.is_cut = True
        return f"{text[: self.cut.text]}…"

    def _list(self, path: str, values: list[Any], depth: int) -> Any:
        if depth >= self.cut.depth and values:
            self.is_cut = True
            return "…"
        found: list[Any] = []
        for number, value in enumerate(values):
            if self.left <= 0:
                self.is_cut = True
                break
            found.append(self.value(f"{path}.{number}", value, depth + 1))
        return found

    def _dict(self, path: str, values: dict[Any, Any], depth: int) -> Any:
        if depth >= self.cut.depth and values:
            self.is_cut = True
            return "…"
        found: dict[str, Any] = {}
        for name, value in values.items():
            if self.left <= 0:
                self.is_cut = True
                break
            key = self._text(str(name))
            found[key] = self.value(f"{path}.{name}", value, depth + 1)
        return found


def _sendable(text: str) -> str:
    """Text that can be sent: halves of a character pair are written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _untagged(stored: Any) -> tuple[Any, str]:
    """What stands inside a tag, and what to call it."""
    if isinstance(stored, dict):
        pairs = cast("dict[str, Any]", stored)
        if len(pairs) == 1:
            ((tag, inner),) = pairs.items()
            if tag == "$dict" and isinstance(inner, list):
                return _pairs(cast("list[Any]", inner)), "dict"
            if tag[:1] == "$" and len(tag) > 1:
                return inner, tag[1:]
        return pairs, "dict"
    if isinstance(stored, list):
        return cast("list[Any]", stored), "list"
    return stored, _NAMES.get(type(cast("object", stored)), "value")


def _pairs(entries: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in entries:
        match entry:
            case [key, value]:
                inner, _ = _untagged(key)
                found[inner if isinstance(inner, str) else json.dumps(inner)] = value
            case _:
                found[f"#{len(found)}"] = entry
    return found


_NAMES: dict[type, str] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
}


def _error_parts(data: bytes, step: PlanStep | None) -> tuple[str, str, str]:
    """Type, message and traceback of a stored error, or of the code of one of the store's own."""
    name = "?" if step is None else step.name
    if data == DEADLINE_ERROR:
        return "TimeoutError", "the timeout of the whole run passed", ""
    if data == POISON_ERROR:
        return (
            "PoisonStepError",
            str(PoisonStepError(name, 8 if step is None else step.lost_most)),
            "",
        )
    if data == EVENT_TIMEOUT_ERROR:
        seconds = None if step is None else step.delay_seconds
        error = EventTimeoutError(name, None if step is None else step.event, seconds)
        return "EventTimeoutError", str(error), ""
    try:
        facts: Any = json.loads(data) if len(data) <= PARSED_BYTES else {}
        found = cast("dict[str, Any]", facts)
        parts = [_untagged(found.get(key, ""))[0] for key in ("type_name", "message", "traceback")]
    except (ValueError, RecursionError, AttributeError):
        return "Error", "its record cannot be read", ""
    kind, message, trace = (str(part) for part in parts)
    return kind.rpartition(".")[2] or "Error", message, trace
