"""`await task.wait_result(progress=True)` shows the run, and changes nothing about the wait."""

import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineError
from taskiq_flow.exceptions import MissingExtraError


def chain(broker: InMemoryBroker) -> Pipeline[int]:
    @broker.task
    async def add(value: int) -> int:
        return value + 1

    @broker.task
    async def double(value: int) -> int:
        if value > 99:
            raise ValueError("too much")
        return value * 2

    return Pipeline(broker).call_next(add).call_next(double)


async def test_it_says_what_was_done_and_returns_the_same_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = await chain(InMemoryBroker()).kiq(1)

    result = await task.wait_result(progress=True)

    said = capsys.readouterr()
    assert result.return_value == 4
    assert "add: completed" in said.err
    assert "double: completed" in said.err
    assert "COMPLETED" in said.err
    assert said.out == ""


async def test_a_failure_is_shown_and_raised_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    task = await chain(InMemoryBroker()).kiq(100)

    with pytest.raises(PipelineError, match="too much"):
        await task.wait_result(progress=True)

    assert "double: failed" in capsys.readouterr().err


async def test_it_is_a_keyword_and_taskiqs_parameters_keep_their_places() -> None:
    task = await chain(InMemoryBroker()).kiq(1)

    with pytest.raises(TypeError):
        await task.wait_result(0.2, -1, False, True)  # type: ignore[misc]

    assert (await task.wait_result(0.2, 5, False)).return_value == 4


async def test_a_screen_that_fails_does_not_fail_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("no space left on device")

    monkeypatch.setattr(sys, "stderr", Broken())
    task = await chain(InMemoryBroker()).kiq(1)

    assert (await task.wait_result(progress=True)).return_value == 4


async def test_without_rich_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    task = await chain(InMemoryBroker()).kiq(1)
    monkeypatch.setitem(sys.modules, "rich.console", None)

    with pytest.raises(MissingExtraError, match=r"taskiq-flow\[cli\]"):
        await task.wait_result(progress=True)

    assert (await task.wait_result()).return_value == 4


async def test_a_notebook_gets_one_display_that_is_updated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """IPython's own names, without IPython: a display handle, and HTML to put into it."""
    shown: list[str] = []
    handle = SimpleNamespace(update=lambda html: shown.append(html.data))

    def display(html: Any, *, display_id: bool) -> SimpleNamespace:
        assert display_id
        shown.append(html.data)
        return handle

    notebook: Any = ModuleType("IPython")
    notebook.get_ipython = lambda: SimpleNamespace(kernel=object())
    notebook.display = SimpleNamespace(
        display=display, HTML=lambda data: SimpleNamespace(data=data)
    )
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    task = await chain(InMemoryBroker()).kiq(1)

    await task.wait_result(progress=True)

    assert "COMPLETED" in shown[-1]
    assert "double" in shown[-1]
