"""What tasks and managers are given, checked where it is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from fastapi_taskflow.exceptions import ManagerOptionError, TaskOptionError
from fastapi_taskflow.models import TaskConfig
from taskiq_flow.exceptions import InvalidNameError
from taskiq_flow.model.names import LONGEST_NAME, check_name
from taskiq_flow.model.numbers import LONGEST_SECONDS, MOST, is_count, is_number

EXECUTORS = (None, "async", "thread", "process")


def check_task(func_name: str, config: TaskConfig) -> None:
    """Refuse options of a task that cannot work.

    Raises:
        TaskOptionError: It names the option, and what it may be.
    """

    def refuse(option: str, rule: str) -> None:
        raise TaskOptionError(func_name, option, getattr(config, option), rule)

    if not is_count(config.retries, 0):
        refuse("retries", "it is a whole number from 0 on")
    if not _is_seconds(config.delay, 0.0):
        refuse("delay", "it is a number of seconds, 0 or more")
    if not _is_seconds(config.backoff, 0.0) or config.backoff == 0:
        refuse("backoff", "it is a number above 0, by which each delay is multiplied")
    if config.max_delay is not None and not _is_seconds(config.max_delay, 0.0):
        refuse("max_delay", "it is a number of seconds, 0 or more, or None")
    if config.timeout is not None and (not _is_seconds(config.timeout, 0.0) or not config.timeout):
        refuse("timeout", "it is a number of seconds above 0, or None")
    if config.executor not in EXECUTORS:
        refuse("executor", "it is 'async', 'thread' or 'process'")
    for option in ("jitter", "eager", "persist", "requeue_on_interrupt"):
        if not isinstance(getattr(config, option), bool):
            refuse(option, "it is True or False")
    for option in ("name", "queue"):
        if not _is_text(getattr(config, option)):
            refuse(option, "it is a short text that can be printed, or None")
    if not _is_priority(config.priority):
        refuse("priority", "it is a whole number, or None")
    for option, shown in (("retry_on", "retry_on"), ("giveup_on", "no_retry_on")):
        if not all(_is_error(kind) for kind in getattr(config, option)):
            kinds = getattr(config, option)
            raise TaskOptionError(func_name, shown, kinds, "they are types of exceptions")


def check_function(func: object) -> None:
    """Refuse what cannot be called.

    Raises:
        TaskOptionError: It cannot.
    """
    if not callable(func):
        rule = "it has to be a function, not what one returned"
        raise TaskOptionError(type(func).__name__, "func", func, rule)


def check_call(
    func_name: str, *, tags: object, priority: object, queue: object, eager: object = None
) -> None:
    """Refuse what a call says of its task that cannot be stored, or means nothing.

    Raises:
        TaskOptionError: It names the option, and what it may be.
        InvalidNameError: A tag cannot be kept by every store.
    """
    if not _is_priority(priority):
        raise TaskOptionError(func_name, "priority", priority, "it is a whole number, or None")
    if not _is_text(queue):
        raise TaskOptionError(func_name, "queue", queue, "it is the name of a queue, or None")
    if eager is not None and not isinstance(eager, bool):
        raise TaskOptionError(func_name, "eager", eager, "it is True, False or None")
    if tags is not None:
        _check_tags(func_name, tags)


def check_key(what: str, key: object) -> None:
    """Refuse a key that not every store can keep, or that cannot be printed.

    Raises:
        InvalidNameError: It is one.
    """
    check_name(what, key)
    if not _is_text(key):
        raise InvalidNameError(what, key, LONGEST_NAME)


def check_time(func_name: str, run_at: object) -> None:
    """Refuse what is no time at which a task can be run.

    Raises:
        TaskOptionError: It is no datetime, or none in UTC.
    """
    if not isinstance(run_at, datetime):
        raise TaskOptionError(func_name, "run_at", run_at, "it is a datetime")
    try:
        datetime.fromtimestamp(moment_of(run_at), UTC)
    except (ValueError, OverflowError):
        rule = "it is a time in the years 1 to 9999 of UTC"
        raise TaskOptionError(func_name, "run_at", run_at, rule) from None


def moment_of(run_at: datetime) -> float:
    """A time in seconds since 1970; a naive one is UTC."""
    return (run_at if run_at.tzinfo else run_at.replace(tzinfo=UTC)).timestamp()


def _check_tags(func_name: str, tags: object) -> None:
    if not isinstance(tags, Mapping):
        raise TaskOptionError(func_name, "tags", tags, "they are a dict of texts")
    given = cast("Mapping[Any, Any]", tags)
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TaskOptionError(func_name, "tags", given, "their names and values are texts")
        check_name("Tag", f"{name}={value}")


def check_manager(**options: Any) -> None:
    """Refuse options of a manager that cannot work: how many at once, and how long.

    Raises:
        ManagerOptionError: It names the option, and what it may be.
    """
    for option, value in options.items():
        if option.endswith("timeout"):
            if not _is_seconds(value, 0.0):
                raise ManagerOptionError(option, value, "must be a number of seconds, 0 or more")
        elif value is not None and not is_count(value):
            raise ManagerOptionError(option, value, "must be a whole number from 1 on, or None")


def _is_seconds(value: object, least: float) -> bool:
    return is_number(value) and least <= value <= LONGEST_SECONDS


def _is_priority(value: object) -> bool:
    return value is None or is_count(value, -MOST)


def _is_text(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_NAME


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)
