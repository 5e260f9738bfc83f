"""Says times, amounts and statuses in the few letters that a page has room for; pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import UTC, datetime, timedelta

from taskiq_flow.model.records import RunStatus, StepKind, StepStatus
from taskiq_flow.operations.models import RunSummary, StepDetail

NOTHING = "\u2013"
"""Stands where there is nothing to say."""

KEY_MOST = 200

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def span(seconds: float | None) -> str:
    """A stretch of time in at most two units: ``0.36 s``, ``6 m 41 s``, ``3 d 4 h``."""
    if seconds is None:
        return NOTHING
    seconds = max(0.0, seconds)
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} m {whole % _MINUTE:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} m"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def age(seconds: float) -> str:
    """A stretch of time in one unit: ``48 s``, ``6 m``, ``3 d``."""
    for unit, size in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago a moment was, or in how long it will be."""
    if moment is None:
        return NOTHING
    seconds = (now - moment).total_seconds()
    if seconds < -1:
        return f"in {age(-seconds)}"
    return "now" if seconds < 1 else f"{age(seconds)} ago"


def absolute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock(moment: datetime | None) -> str:
    return NOTHING if moment is None else f"{moment.astimezone(UTC):%H:%M:%S}"


def lasted(run: RunSummary, now: datetime) -> float:
    """The seconds that a run took, or has been there for."""
    if run.duration_ms is not None:
        return run.duration_ms / 1000
    return max(
        timedelta(), (run.ended_at or now) - (run.started_at or run.created_at)
    ).total_seconds()


def step_lasted(step: StepDetail, now: datetime) -> float | None:
    if step.duration_ms is not None:
        return step.duration_ms / 1000
    if step.started_at is None:
        return None
    return max(0.0, ((step.ended_at or now) - step.started_at).total_seconds())


def amount(number: float) -> str:
    """A number with its thousands apart."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"


def many(number: int, one: str, more: str | None = None) -> str:
    """A number and its noun: ``1 step``, ``2 steps``."""
    return f"{amount(number)} {one if number == 1 else more or one + 's'}"


def size(octets: int) -> str:
    for unit, step in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if octets >= step:
            return f"{octets / step:.1f} {unit}"
    return f"{octets} B"


def run_word(status: RunStatus | str) -> str:
    """The word by which a status of a run has its colour and shape."""
    return str(status).lower()


def step_word(step: StepDetail) -> str:
    """The same of a step; one that waits for an event is drawn as that."""
    if step.kind is StepKind.EVENT and step.status in (StepStatus.READY, StepStatus.RUNNING):
        return "event"
    if step.status in (StepStatus.WAITING, StepStatus.READY):
        return "pending"
    return step.status.value.lower()


def step_line(step: StepDetail, now: datetime) -> str:
    """What a step has to say besides its name: the reason where there is one, else its time."""
    took = span(step_lasted(step, now))
    match step_word(step):
        case "event":
            return (
                f"waits for event, {age((now - step.started_at).total_seconds())}"
                if (step.started_at)
                else "waits for an event"
            )
        case "failed":
            tries = max(step.attempt, 1)
            return f"failed after {many(tries, 'attempt')}"
        case "retrying":
            due = "" if step.retry_at is None else f" {ago(step.retry_at, now)}"
            return f"attempt {step.attempt + 1} of {max(step.attempts_most, step.attempt + 1)}{due}"
        case "skipped":
            return f"skipped: {step.note}" if step.note else "skipped"
        case "completed":
            if step.is_taken_over:
                return "taken over"
            lost = f", {many(step.lost, 'lost lease')}" if step.lost else ""
            return f"{took}{lost}"
        case "running":
            said = (step.progress or {}).get("message")
            return visible(str(said), 60) if said else f"{took} so far"
        case "cancelled":
            return "cancelled" if step.started_at else "not started"
        case _:
            return step.note or "not started"


def is_hot(step: StepDetail) -> bool:
    """Whether its line is to be seen first."""
    return step_word(step) in {"failed", "retrying", "event"}


def visible(text: str, most: int | None = None) -> str:
    """Foreign text without what would move, hide or colour other text.

    Terminal colours go, and so do control characters and marks of writing direction, which show
    as a box. ``most`` bounds the characters that are looked at and shown.
    """
    if most is not None and len(text) > most:
        text = f"{text[: most - 1]}…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in _HIDDEN else "\ufffd"
        for char in _ANSI.sub("", text)
    )


_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def key(text: str) -> str:
    """What tells a row from the others of its page: foreign text if that is short and plain."""
    if len(text) <= KEY_MOST and text.isprintable():
        return text
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def one_line(text: str, most: int = 200) -> str:
    """Foreign text as one visible line."""
    return " ".join(visible(text[: most + 1], most).split())
