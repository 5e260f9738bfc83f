"""The table of settings in the documents has every setting, with its default."""

import re

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from taskiq_flow import TaskiqFlowConfig
from tests.support.tree import ROOT

TABLE = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `TASKIQ_FLOW_([A-Z_]+)` \| ([^|]+) \|", TABLE, flags=re.MULTILINE))
MADE = {"secret_key": "made anew", "worker_name": "host and pid"}
"""Settings whose default is not a value."""


def test_every_setting_has_one_row_and_every_row_is_a_setting() -> None:
    assert sorted(ROWS) == sorted(name.upper() for name in TaskiqFlowConfig.model_fields)


@pytest.mark.parametrize("name", TaskiqFlowConfig.model_fields)
def test_a_row_shows_the_default(name: str) -> None:
    field = TaskiqFlowConfig.model_fields[name]
    default = {} if field.default is PydanticUndefined else field.default
    said = ROWS[name.upper()].strip("`")

    if not default and default is not False:
        assert said == MADE.get(name, "none")
    elif isinstance(default, bool):
        assert said == str(default).lower()
    elif isinstance(default, float):
        assert float(said) == default
    else:
        assert said == str(default)


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1", "1e12"])
@pytest.mark.parametrize(
    "name", ["retention_seconds", "storage_ttl_seconds", "session_seconds", "audit_keep_seconds"]
)
def test_a_time_that_no_database_counts_to_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TASKIQ_FLOW_{name.upper()}", value)

    with pytest.raises(ValidationError, match=name):
        TaskiqFlowConfig()
