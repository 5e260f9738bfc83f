"""Ids of tasks: UUIDs that tell tasks apart by their beginnings, those of one moment together."""

from itertools import groupby
from uuid import UUID

import pytest

from fastapi_taskflow import drafts
from fastapi_taskflow.drafts import MOMENT_BITS, keyed_task_id, new_task_id


def test_an_id_is_a_uuid_in_the_form_of_version_4() -> None:
    for made in (new_task_id(), keyed_task_id("here", "key", 0)):
        assert UUID(made).version == 4
        assert UUID(made).variant == "specified in RFC 4122"
        assert str(UUID(made)) == made


def test_ids_of_one_moment_lie_together_and_differ_in_what_log_lines_show_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moment = 1 << MOMENT_BITS
    made: list[str] = []
    for now in (700 * moment, 4095 * moment, 4096 * moment):
        monkeypatch.setattr(drafts.time, "time_ns", lambda now=now: now + moment // 2)
        made += [new_task_id() for _ in range(10)]

    beginnings = [beginning for beginning, _ in groupby(made, lambda task_id: task_id[:3])]
    assert beginnings == ["2bc", "fff", "000"]
    assert len({task_id[:8] for task_id in made}) >= len(made) - 1  # two in a million are alike
