"""Where the tasks of a test are stored."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def url_of(
    request: pytest.FixtureRequest,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], str | None]:
    """The address of a store by its name; None for that in memory."""
    monkeypatch.setenv("TASKIQ_FLOW_NAMESPACE", namespace)

    def find(store: str) -> str | None:
        if store in ("redis", "postgres"):
            return str(request.getfixturevalue(f"{store}_url"))
        return None if store == "memory" else f"sqlite:///{tmp_path / 'tasks.db'}"

    return find
