"""Shows the run of a task as the record that users know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from fastapi_taskflow.arguments import opened, sealed
from fastapi_taskflow.drafts import read_facts
from fastapi_taskflow.models import Executor, TaskRecord, TaskStatus
from taskiq_flow.codec import decode, decode_error
from taskiq_flow.engine.step_log import LogLine
from taskiq_flow.exceptions import UndecodableValueError
from taskiq_flow.model.records import RunSnapshot, RunStatus, SequenceValue, Value
from taskiq_flow.model.transitions import DEADLINE_ERROR, POISON_ERROR

if TYPE_CHECKING:
    from fastapi_taskflow.encryption import Cipher

REJECTED = "rejected: "
"""How the reason of a run begins that was never to run, because its queue was full."""

INTERRUPTED_TYPE = "fastapi_taskflow.exceptions.TaskInterruptedError"

LOST = "the process that ran it ended before the task did, and it may not be run twice"

_STATUS = {
    RunStatus.PENDING: TaskStatus.PENDING,
    RunStatus.RUNNING: TaskStatus.RUNNING,
    RunStatus.COMPLETED: TaskStatus.SUCCESS,
    RunStatus.FAILED: TaskStatus.FAILED,
    RunStatus.CANCELLED: TaskStatus.CANCELLED,
}


def status_of(run: RunSnapshot) -> TaskStatus:
    """Where a task is, by its run."""
    if run.status is RunStatus.CANCELLED and (run.reason or "").startswith(REJECTED):
        return TaskStatus.REJECTED
    if run.status is RunStatus.FAILED and _is_interruption(run.error):
        return TaskStatus.INTERRUPTED
    return _STATUS[run.status]


def run_status_of(status: TaskStatus) -> RunStatus:
    """The status of the runs among which tasks of a status are found."""
    if status is TaskStatus.INTERRUPTED:
        return RunStatus.FAILED
    if status is TaskStatus.REJECTED:
        return RunStatus.CANCELLED
    return next(run for run, task in _STATUS.items() if task is status)


def _is_interruption(error: bytes | None) -> bool:
    if error is None:
        return False
    return error == POISON_ERROR or INTERRUPTED_TYPE.encode() in error[:200]


def record_of(
    run: RunSnapshot,
    values: Mapping[int, Value] | None = None,
    log: Sequence[bytes] = (),
    cipher: Cipher | None = None,
) -> TaskRecord:
    """The record of a task; ``values`` are its stored arguments and result, ``log`` its lines."""
    facts = read_facts(run.meta)
    status = status_of(run)
    error, stacktrace = _error_of(run)
    step = next((s for s in reversed(run.steps) if s.task), None)
    attempts = 0 if step is None else step.attempt
    is_last_counted = run.status is RunStatus.FAILED and run.error != POISON_ERROR
    args, kwargs, hidden = _arguments_of(values, cipher)
    return TaskRecord(
        task_id=run.run_id,
        func_name=facts.name or run.name,
        status=status,
        args=args,
        kwargs=kwargs,
        created_at=_moment(run.created_at),
        start_time=None if run.started_at is None else _moment(run.started_at),
        end_time=None if run.ended_at is None else _moment(run.ended_at),
        retries_used=max(0, attempts - is_last_counted),
        error=error,
        logs=_log_lines(log),
        stacktrace=stacktrace,
        idempotency_key=facts.key,
        tags=dict(facts.tags),
        encrypted_payload=hidden,
        source=facts.source,
        priority=facts.priority,
        executor=cast("Executor", facts.executor) if facts.executor else None,
        queue=facts.queue,
        result=_result_of(values),
        progress=None if step is None or step.progress is None else decode(step.progress),
    )


def _error_of(run: RunSnapshot) -> tuple[str | None, str | None]:
    if run.status is RunStatus.CANCELLED:
        return run.reason, None
    if run.error is None:
        return None, None
    if run.error == POISON_ERROR:
        return LOST, None
    if run.error == DEADLINE_ERROR:
        return "its time was up", None
    try:
        stored = decode_error(run.error)
    except UndecodableValueError:
        return repr(run.error), None
    return stored.message or stored.type_name, stored.traceback or None


def _arguments_of(
    values: Mapping[int, Value] | None, cipher: Cipher | None
) -> tuple[tuple[Any, ...], dict[str, Any], bytes | None]:
    stored = None if values is None else values.get(-1)
    if not isinstance(stored, bytes):
        return (), {}, None
    payload = decode(stored)
    hidden = sealed(payload)
    if hidden is not None:  # shown as it is stored, also where the key is at hand
        return (), {}, hidden
    data = opened(payload, cipher) or {}
    return tuple(data.get("args", ())), dict(data.get("kwargs", {})), None


def _result_of(values: Mapping[int, Value] | None) -> Any:
    for key, value in (values or {}).items():
        if key >= 0 and not isinstance(value, SequenceValue):
            return decode(value)
    return None


def _log_lines(log: Sequence[bytes]) -> list[str]:
    """Lines as records show them, with a mark where another attempt begins."""
    lines: list[str] = []
    attempt = 1
    for stored in log:
        line = LogLine.read(stored)
        if line.attempt > attempt:
            attempt = line.attempt
            lines.append(f"--- Retry {attempt - 1} ---")
        stamp = line.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        lines.append(f"{stamp} {line.message}")
    return lines


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
