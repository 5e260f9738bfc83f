"""What becomes of a run whose process is interrupted or killed."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskiq_flow.cli.__main__ import main
from taskiq_flow.cli.interrupts import Choice, Interrupts
from taskiq_flow.cli.output import Output
from tests.integration.cli.conftest import Cli
from tests.support.tree import ROOT
from tools.serving.processes import wait_until

APP = """
import asyncio
from pathlib import Path
from taskiq import InMemoryBroker
from taskiq_flow import Pipeline

broker = InMemoryBroker()

@broker.task
async def first(value: int) -> int:
    with Path("first.log").open("a") as log:
        log.write("ran\\n")
    return value + 1

@broker.task
async def second(value: int) -> int:
    Path("second.log").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    return value + 1

chain = Pipeline(broker).with_name("chain").call_next(first).call_next(second)
"""


@contextmanager
def signalled(cli: Cli, number: signal.Signals) -> Iterator[None]:
    """Send this process a signal as soon as the second step runs."""

    def send() -> None:
        if wait_until((cli.directory / "second.log").exists, timeout_seconds=60):
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join()


@contextmanager
def started(cli: Cli, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, when its second step runs."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}
    process = subprocess.Popen(
        [sys.executable, "-m", "taskiq_flow.cli", *words],
        cwd=cli.directory, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    mark = Path(cli.directory) / "second.log"
    try:
        assert wait_until(lambda: mark.exists() or process.poll() is not None, timeout_seconds=60)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_run_goes_on_from_what_was_recorded(cli: Cli) -> None:
    app = cli.write(APP)
    with started(cli, "run", f"{app}:chain", "--arg", "1") as process:
        process.kill()
        _, err = process.communicate()
    (cli.directory / "go").touch()
    run_id = cli("list", "--json").json["runs"][0]["run_id"]

    said = cli("run", f"{app}:chain", "--continue", run_id[-8:], "--json", "-q")

    assert f"taskiq-flow run {app}:chain --continue {run_id[-8:]}" in err
    assert (said.code, said.json["run_id"], said.json["result"]) == (0, run_id, 3)
    assert (cli.directory / "first.log").read_text() == "ran\n"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_an_interrupted_run_is_kept_and_the_command_says_how_to_go_on(
    cli: Cli, number: signal.Signals, code: int
) -> None:
    app = cli.write(APP)
    with signalled(cli, number):
        stopped = cli("run", f"{app}:chain", "--arg", "1")
    run_id = cli("list", "--json").json["runs"][0]["run_id"]
    status = cli("show", run_id, "--json").json["summary"]["status"]

    assert (stopped.code, stopped.out, status) == (code, "", "RUNNING")
    assert f"Run {run_id} is kept with all that is done." in stopped.err
    assert f"taskiq-flow run {app}:chain --continue {run_id[-8:]}" in stopped.err


def test_an_interrupted_run_goes_on_in_the_same_process(cli: Cli) -> None:
    app = cli.write(APP)
    with signalled(cli, signal.SIGINT):
        cli("run", f"{app}:chain", "--arg", "1")
    run_id = cli("list", "--json").json["runs"][0]["run_id"]
    (cli.directory / "go").touch()

    said = cli("run", f"{app}:chain", "--continue", run_id[-8:], "--json", "-q")

    assert (said.code, said.json["run_id"], said.json["result"]) == (0, run_id, 3)
    assert (cli.directory / "first.log").read_text() == "ran\n"


def test_a_run_in_memory_is_gone_and_the_command_says_so(cli: Cli) -> None:
    app = cli.write(APP)
    with signalled(cli, signal.SIGINT):
        said = cli("run", f"{app}:chain", "--arg", "1", "--store", "memory://")

    assert said.code == 130
    assert "is gone" in said.err
    assert "gone with this process" in said.err


@pytest.mark.parametrize(
    ("typed", "choice"),
    [
        ("c\n", Choice.CANCEL),
        ("g\n", Choice.GO_ON),
        ("k\n", Choice.KEEP),
        ("\n", Choice.KEEP),
        ("what?\n", Choice.KEEP),
        (None, Choice.KEEP),
    ],
)
async def test_at_a_terminal_it_asks_and_a_second_ctrl_c_keeps_the_run(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, typed: str | None, choice: Choice
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    master, slave = pty.openpty()
    interrupts = Interrupts()
    with os.fdopen(slave) as terminal, interrupts.heard():
        monkeypatch.setattr(sys, "stdin", terminal)
        asking = asyncio.create_task(interrupts.ask(Output(), "What now?"))
        await asyncio.sleep(0)
        if typed is None:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            os.write(master, typed.encode())

        answer = await asyncio.wait_for(asking, 10)

    os.close(master)
    assert answer is choice


async def test_one_more_ctrl_c_when_all_is_said_ends_the_process_at_once(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop would wait for what still runs in threads."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with Interrupts().heard():
        pass

    os.kill(os.getpid(), signal.SIGINT)

    assert codes == [130]


async def test_where_nobody_can_be_asked_the_run_is_kept(cli: Cli) -> None:
    assert await Interrupts().ask(Output(), "What now?") is Choice.KEEP


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_the_command_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    assert main() == 2

    assert "pip install 'taskiq-flow[cli]'" in capsys.readouterr().err
