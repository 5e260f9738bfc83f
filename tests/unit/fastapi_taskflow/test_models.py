"""The record of a task, and how it is written as JSON."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from fastapi_taskflow.models import TaskRecord, TaskStatus

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_duration_is_known_once_a_task_has_ended() -> None:
    record = TaskRecord("id", "send")
    assert record.duration is None

    record.start_time, record.end_time = NOON, NOON + timedelta(seconds=1.5)

    assert record.duration == 1.5


def test_a_record_is_written_as_json_whatever_its_arguments_are() -> None:
    record = TaskRecord(
        "id",
        "send",
        args=(NOON, UUID(int=1), Decimal("1.10"), b"\xff", {1, 2}, object, float("nan"), "\ud800"),
        kwargs={"when": NOON},
        result={"rows": (1, 2)},
    )

    written = json.loads(json.dumps(record.to_dict(), allow_nan=False))

    assert written["status"] == "pending"
    assert written["kwargs"] == {"when": "2026-01-01T12:00:00Z"}
    assert written["result"] == {"rows": [1, 2]}
    assert written["duration"] is None


def test_a_record_comes_back_from_json() -> None:
    record = TaskRecord(
        "id", "send", TaskStatus.FAILED, ("a",), {"b": 1}, NOON, NOON, NOON, 2, "boom",
        ["2026-01-01T12:00:00 hello"], "Traceback …", "key", {"t": "1"}, b"gAAA", "scheduled",
        5, "thread", "mails", None, {"current": 1},
    )  # fmt: skip

    assert TaskRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
