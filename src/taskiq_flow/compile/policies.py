"""How steps are retried, timed and labelled: what task and pipeline say, in order of precedence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar, cast

from taskiq_flow.dataflow import TaskOptions
from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.model.numbers import LONGEST_SECONDS, check_seconds, is_count, is_number
from taskiq_flow.model.records import Limit, OnFailure
from taskiq_flow.model.retry import NO_RETRY, RetryPolicy, name_of_task, names_of

T = TypeVar("T")

DEFAULT_RETRY = RetryPolicy(max_attempts=3)
"""What ``on_error("retry")`` and a bare ``with_retry()`` mean."""


class OnError(StrEnum):
    """What a pipeline does when one of its steps has failed for good."""

    STOP = "stop"  # the run fails, what has not ended is cancelled
    CONTINUE = "continue"  # the run goes on without that value
    RETRY = "retry"  # try again by the default policy, then stop
    DEAD_LETTER = "dead_letter"  # run all that does not need the failed step, then fail


@dataclass(frozen=True, slots=True)
class Policies:
    """What a pipeline says about all of its steps; a task's own word goes before it."""

    retry: RetryPolicy | None = None
    on_error: OnError = OnError.STOP
    labels: Mapping[str, Any] = field(default_factory=dict[str, Any])
    context_by_name: bool = False
    limits: tuple[Limit, ...] = ()

    def retry_over(self, default: RetryPolicy = NO_RETRY) -> RetryPolicy:
        """The policy of steps that have none of their own; ``default`` where this has none too."""
        if self.retry is not None:
            return self.retry
        return DEFAULT_RETRY if self.on_error is OnError.RETRY else default

    def on_failure(self, *, going_on: OnFailure) -> OnFailure:
        """What the failure of a step does; ``going_on`` is how this kind of pipeline goes on."""
        if self.on_error is OnError.CONTINUE:
            return going_on
        return OnFailure.LATER if self.on_error is OnError.DEAD_LETTER else OnFailure.STOP


def check_retry(policy: RetryPolicy) -> RetryPolicy:
    """Return a policy that can work.

    Raises:
        InvalidTaskOptionError: One of its numbers makes no sense.
    """
    most, backoff = policy.max_attempts, policy.backoff
    _require("max_attempts", most, is_count(most), "must be a whole number, 1 or more")
    for name in ("delay", "max_delay"):
        value = getattr(policy, name)
        good = is_number(value) and 0 <= value <= LONGEST_SECONDS
        _require(name, value, good, _NOT_NEGATIVE)
    _require("backoff", backoff, is_number(backoff) and backoff >= 1, "must be a number from 1 on")
    check_seconds("max_total", policy.max_total)
    _require("jitter", policy.jitter, policy.jitter in (True, False), "must be True or False")
    return policy


def retry_policy(
    labels: Mapping[str, Any], options: TaskOptions, default: RetryPolicy
) -> RetryPolicy:
    """The policy of one step: its labels over its ``@pipeline_task`` over the pipeline's.

    Labels mean what they mean to Taskiq's retry middlewares, so ``max_retries`` counts all tries;
    a label that is not there leaves that field to the next in line.
    """
    policy = default if options.retries is None else check_retry(_of_options(options))
    if _POLICY_LABELS.isdisjoint(labels):
        return policy  # that of most steps, and a long chain has many
    if isinstance(labels.get("retry_policy"), RetryPolicy):
        policy = labels["retry_policy"]
    wanted = _read(labels, "retry_on_error", _boolean)
    if wanted is False:
        return RetryPolicy()
    tries = _read(labels, "max_retries", int)
    delay = _read(labels, "retry_delay", float)
    if tries is None and wanted and policy.max_attempts == 1:
        tries = DEFAULT_RETRY.max_attempts
    changes: dict[str, Any] = {
        "max_attempts": None if tries is None else max(1, tries),
        "delay": _read(labels, "delay", float) if delay is None else delay,
        "backoff": _read(labels, "retry_backoff", float),
        "jitter": _read(labels, "retry_jitter", _boolean),
        "max_total": _read(labels, "retry_timeout", float),
        "retry_on": _read(labels, "types_of_exceptions", names_of)
        or _read(labels, "retry_on", names_of),
        "no_retry_on": _read(labels, "no_retry_on", names_of),
        "on_retry": _read(labels, "on_retry", lambda task: name_of_task("on_retry", task)),
    }
    return check_retry(replace(policy, **{k: v for k, v in changes.items() if v is not None}))


def step_timeout(labels: Mapping[str, Any], options: TaskOptions) -> float | None:
    """Seconds that one try of a step may take; None for any time."""
    timeout = _read(labels, "timeout", float)
    if timeout is None:
        timeout = options.timeout
    check_seconds("timeout", timeout)
    return timeout


def step_labels(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The labels that travel with a step; later layers win.

    Policies have been read out of them, and what is not JSON becomes text, as Taskiq does it.
    """
    merged = {name: value for layer in layers for name, value in layer.items()}
    return {name: _plain(value) for name, value in merged.items() if name not in _POLICY_LABELS}


def _of_options(options: TaskOptions) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=(options.retries or 0) + 1,
        delay=options.retry_delay,
        backoff=options.retry_backoff,
        jitter=options.retry_jitter,
        max_total=options.max_retry_time,
        retry_on=options.retry_on,
        no_retry_on=options.no_retry_on,
    )


def _read(labels: Mapping[str, Any], name: str, convert: Callable[[Any], T]) -> T | None:
    value = labels.get(name)
    if value is None:
        return None
    try:
        return convert(value)
    except (TypeError, ValueError, AttributeError):
        raise InvalidTaskOptionError(
            f"label {name}", value, _RULES.get(name, "must be a number")
        ) from None


def _boolean(value: Any) -> bool:
    return value.lower() == "true" if isinstance(value, str) else bool(value)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {str(name): _plain(part) for name, part in items}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in cast("Iterable[Any]", value)]
    return str(value)


def _require(option: str, value: object, good: bool, rule: str) -> None:
    if not good:
        raise InvalidTaskOptionError(option, value, rule)


_NOT_NEGATIVE = "must not be negative: a number of seconds up to a hundred years"
_EXCEPTIONS = "must be exception types or their qualified names"
_RULES = {
    "types_of_exceptions": _EXCEPTIONS,
    "retry_on": _EXCEPTIONS,
    "no_retry_on": _EXCEPTIONS,
    "on_retry": "must be a task or the name of one",
}

# Read into the step's policy, or of another part of Taskiq; `retry_on_error` would make a retry
# middleware of the broker take the step out of its run.
_POLICY_LABELS = frozenset(
    {"retry_on_error", "max_retries", "delay", "retry_delay", "retry_backoff", "retry_jitter"}
    | {"retry_timeout", "retry_on", "no_retry_on", "retry_policy", "on_retry", "schedule"}
    | {"types_of_exceptions", "timeout", "_retries"}
)
