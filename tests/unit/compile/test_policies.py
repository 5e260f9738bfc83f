"""A task's own word goes before its decorator's, and that before the pipeline's."""

from typing import Any

import pytest

from taskiq_flow.compile.policies import (
    DEFAULT_RETRY,
    OnError,
    Policies,
    check_retry,
    names_of,
    retry_policy,
    step_labels,
    step_timeout,
)
from taskiq_flow.dataflow import TaskOptions
from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.plan import RetryPolicy

PIPELINE = RetryPolicy(max_attempts=9, delay=0.5, backoff=3.0)
SILENT = TaskOptions()


def test_without_a_word_from_anyone_a_step_is_tried_once() -> None:
    assert retry_policy({}, SILENT, RetryPolicy()).max_attempts == 1


def test_a_silent_task_takes_the_pipelines_policy() -> None:
    assert retry_policy({}, SILENT, PIPELINE) == PIPELINE


def test_the_decorator_goes_before_the_pipeline() -> None:
    options = TaskOptions(retries=2, retry_delay=0.1, retry_on=(KeyError,), max_retry_time=60)
    policy = retry_policy({}, options, PIPELINE)

    assert (policy.max_attempts, policy.delay, policy.backoff) == (3, 0.1, 2.0)
    assert (policy.retry_on, policy.max_total) == (("builtins.KeyError",), 60)


def test_no_retries_in_the_decorator_turns_the_pipelines_policy_off() -> None:
    assert retry_policy({}, TaskOptions(retries=0), PIPELINE).max_attempts == 1


def test_labels_go_before_the_decorator_and_leave_the_rest_to_it() -> None:
    labels = {"retry_on_error": True, "max_retries": 5, "delay": 7}
    policy = retry_policy(labels, TaskOptions(retries=1, retry_backoff=4), PIPELINE)

    assert (policy.max_attempts, policy.delay, policy.backoff) == (5, 7.0, 4.0)


def test_a_bare_retry_label_means_three_tries() -> None:
    assert retry_policy({"retry_on_error": "True"}, SILENT, RetryPolicy()).max_attempts == 3


def test_a_step_is_tried_at_least_once() -> None:
    assert retry_policy({"max_retries": 0}, SILENT, PIPELINE).max_attempts == 1


def test_a_label_against_retries_turns_them_off() -> None:
    labels = {"retry_on_error": False, "max_retries": 5}

    assert retry_policy(labels, TaskOptions(retries=3), PIPELINE) == RetryPolicy()


def test_a_delay_of_zero_is_a_delay() -> None:
    assert retry_policy({"max_retries": 2, "retry_delay": 0}, SILENT, PIPELINE).delay == 0


def test_labels_may_name_the_exceptions() -> None:
    labels = {"max_retries": 2, "types_of_exceptions": [KeyError], "no_retry_on": "app.Fatal"}
    policy = retry_policy(labels, SILENT, PIPELINE)

    assert (policy.retry_on, policy.no_retry_on) == (("builtins.KeyError",), ("app.Fatal",))


def test_a_whole_policy_can_be_a_label() -> None:
    assert retry_policy({"retry_policy": DEFAULT_RETRY}, SILENT, PIPELINE) == DEFAULT_RETRY


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"max_retries": "many"}, "Label max_retries must be a number"),
        ({"delay": -1}, "Delay must not be negative"),
        ({"types_of_exceptions": [1]}, "must be exception types"),
    ],
)
def test_a_label_that_makes_no_sense_is_named(labels: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidTaskOptionError, match=said):
        retry_policy(labels, SILENT, PIPELINE)


@pytest.mark.parametrize(
    "policy",
    [
        RetryPolicy(max_attempts=0),
        RetryPolicy(delay=-1),
        RetryPolicy(backoff=0.5),
        RetryPolicy(max_delay=-1),
        RetryPolicy(max_total=0),
    ],
)
def test_a_policy_that_cannot_work_is_refused(policy: RetryPolicy) -> None:
    with pytest.raises(InvalidTaskOptionError):
        check_retry(policy)


def test_retry_as_error_mode_is_the_default_policy_unless_there_is_another() -> None:
    broker = RetryPolicy(max_attempts=7)

    assert Policies(on_error=OnError.RETRY).retry_over(broker) == DEFAULT_RETRY
    assert Policies(on_error=OnError.RETRY, retry=PIPELINE).retry_over(broker) == PIPELINE
    assert Policies().retry_over(broker) == broker


def test_exceptions_are_stored_by_qualified_name() -> None:
    assert names_of(ValueError) == ("builtins.ValueError",)
    assert names_of([ValueError, "app.Oops"]) == ("builtins.ValueError", "app.Oops")


def test_the_timeout_label_goes_before_the_decorator() -> None:
    assert step_timeout({"timeout": "2.5"}, TaskOptions(timeout=9)) == 2.5
    assert step_timeout({}, TaskOptions(timeout=9)) == 9
    assert step_timeout({}, SILENT) is None


def test_a_timeout_must_be_positive() -> None:
    with pytest.raises(InvalidTaskOptionError, match="Timeout must be positive"):
        step_timeout({"timeout": 0}, SILENT)


def test_labels_travel_as_json_without_what_was_read_as_policy() -> None:
    labels = {"queue": "a", "retry_on_error": True, "odd": ValueError, "deep": {"k": (1, None)}}

    assert step_labels({"queue": "b", "team": "x"}, labels) == {
        "queue": "a",
        "team": "x",
        "odd": "<class 'ValueError'>",
        "deep": {"k": [1, None]},
    }
