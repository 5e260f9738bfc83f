"""Decides what a finished try of a step means for its run; pure."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from taskiq.exceptions import NoResultError

from taskiq_flow.exceptions import AbortPipeline, StepTimeoutError, UnserializableValueError
from taskiq_flow.model.names import storable
from taskiq_flow.model.records import (
    Aborted,
    Done,
    Failed,
    ItemDone,
    ItemMark,
    ItemRetry,
    OnFailure,
    Retry,
)
from taskiq_flow.plan import MapMode, PlanStep


@dataclass(frozen=True, slots=True)
class Again:
    """The step asked to be run again without counting this try."""

    delay_seconds: float = 0.0


class Try(NamedTuple):
    """How one call of user code ended: a stored value, or an exception and its stored form.

    ``failures`` counts failures before this one; ``elapsed`` is seconds since the first try began.
    """

    value: bytes | None = None
    error: BaseException | None = None
    stored_error: bytes = b""
    failures: int = 0
    elapsed: float = 0.0
    truthy: bool = True


def decide_step(
    step: PlanStep, ended: Try, chance: float
) -> Done | Failed | Retry | Aborted | Again:
    """Say what to record for a plain step; ``chance`` in [0, 1) draws the jitter of a retry."""
    error = ended.error
    if error is None:
        return Done(ended.value or b"null")
    if isinstance(error, AbortPipeline):
        return Aborted(storable(error.reason))
    if isinstance(error, NoResultError):
        return Again(getattr(error, "delay_seconds", 0.0))
    if may_retry(step, ended):
        return Retry(ended.stored_error, step.retry.pause(ended.failures + 1, chance))
    return Failed(ended.stored_error, step.on_failure)


def decide_item(
    step: PlanStep, number: int, item: bytes, ended: Try, chance: float
) -> ItemDone | ItemRetry | Failed | Aborted | Again:
    """Say what to record for one item of a map; ``item`` is the stored element with its mark."""
    error = ended.error
    if error is None:
        if step.map is not None and step.map.mode is MapMode.FILTER:
            return ItemDone(number, item if ended.truthy else ItemMark.DROPPED)
        return ItemDone(number, ItemMark.VALUE + (ended.value or b"null"))
    if isinstance(error, AbortPipeline):
        return Aborted(storable(error.reason))
    if isinstance(error, NoResultError):
        return Again(getattr(error, "delay_seconds", 0.0))
    if may_retry(step, ended):
        pause = step.retry.pause(ended.failures + 1, chance)
        return ItemRetry(number, ended.stored_error, pause)
    if step.map is not None and step.map.skip_errors:
        return ItemDone(number, ItemMark.DROPPED)
    if step.on_failure in (OnFailure.STOP, OnFailure.LATER):
        return Failed(ended.stored_error, step.on_failure)
    return ItemDone(number, ItemMark.FAILED + ended.stored_error)


def may_retry(step: PlanStep, ended: Try) -> bool:
    """Say whether a failed try is followed by another one.

    A value that cannot be stored is not tried again: the next one would be of the same type.
    """
    if ended.error is None or isinstance(ended.error, UnserializableValueError):
        return False
    return step.retry.allows(ended.failures + 1, ended.error, ended.elapsed)


def named_timeout(step: PlanStep, error: BaseException) -> BaseException:
    """Turn the host's bare ``TimeoutError`` of a step with a timeout into one that names it."""
    if (
        type(error) is TimeoutError
        and step.timeout is not None
        and not isinstance(error, asyncio.CancelledError)
    ):
        named = StepTimeoutError(step.name, step.timeout)
        named.__cause__ = error
        return named
    return error
