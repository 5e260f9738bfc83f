"""What the command line shows of runs, for people and for programs, whatever the runs hold."""

import re
import socket
import sqlite3
from contextlib import closing

import pytest

from taskiq_flow.cli import common
from tests.integration.cli.conftest import Cli

HOSTILE = "[bold]b[/bold] \\x1b[31mred\\x1b]0;t\\x07 \\u202eevil\\u200f <script>"
APP = f'''
from taskiq import InMemoryBroker
from taskiq_flow import Pipeline, PipelineContext

broker = InMemoryBroker()
HOSTILE = "{HOSTILE}"

@broker.task
async def speak(value: int, context: PipelineContext) -> str:
    context.logger.info("hello %s", value)
    context.logger.warning(HOSTILE)
    return HOSTILE

@broker.task
async def fail(text: str) -> str:
    raise RuntimeError(HOSTILE + "x" * 1_000_000)

@broker.task
async def count(value: int) -> list[int]:
    return list(range(value))

good = Pipeline(broker).with_name("good").call_next(count)
bad = Pipeline(broker).with_name("bad").call_next(speak).call_next(fail)
long = Pipeline(broker).with_name("many words " * 20).call_next(speak).call_next(fail)
waiting = Pipeline(broker).with_name("waiting").call_next(speak).wait_for("go")
'''
OWN = re.compile(r"\r\x1b\[2K|\x1b\[(?:[0-9;]*m|\?25[lh]|1A|2K)")
"""What rich writes itself: colours, the cursor off and on, a line up, a line cleared."""


@pytest.fixture
def app(cli: Cli) -> str:
    return cli.write(APP)


def run(cli: Cli, app: str, name: str, *words: str) -> str:
    return cli("run", f"{app}:{name}", "-q", "-a", "5", "--json", *words).json["run_id"]


def test_a_narrow_terminal_takes_room_from_names_and_reasons_and_never_from_ids(
    cli: Cli, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = run(cli, app, "long")
    monkeypatch.setenv("COLUMNS", "80")

    heading, row = cli("list").out.splitlines()

    assert run_id[-8:] in row
    assert "✗ FAILED" in row
    assert "2 of 2" in row
    assert max(len(heading), len(row)) <= 80
    assert run_id[-8:] in cli("dlq", "list").out


def test_whoever_waits_for_a_store_that_is_silent_is_told_what_for(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "TICK_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        place = f"127.0.0.1:{deaf.getsockname()[1]}?socket_timeout=0.2"
        said = cli("list", "--store", f"redis://:geheim@{place}")

    first, last = said.err.splitlines()
    assert first == f"waiting for redis://…@{place}, which does not answer yet"
    assert last.startswith("error: The run store")
    assert said.code == 4


def test_lists_are_filtered_and_paged(cli: Cli, app: str) -> None:
    first, second = run(cli, app, "good"), run(cli, app, "good")
    third = run(cli, app, "bad", "--tag", "red")

    page = cli("list", "--json", "-n", "2").json
    rest = cli("list", "--json", "--cursor", page["cursor"]).json

    assert [each["run_id"] for each in (*page["runs"], *rest["runs"])] == [third, second, first]
    assert page["total"] == 3
    assert cli("list", "--cursor", "nonsense").code == 2
    for words, found in (
        (["--status", "failed"], [third]),
        (["--name", "good"], [second, first]),
        (["--search", "ba"], [third]),
        (["--tag", "red"], [third]),
        (["--since", "1h", "--name", "bad"], [third]),
        (["--until", "1h"], []),
    ):
        assert [each["run_id"] for each in cli("list", "--json", *words).json["runs"]] == found
    words = cli("list")
    assert first[-8:] in words.out
    assert "✗ FAILED" in words.out


def test_a_run_is_found_by_its_id_the_end_of_it_and_its_name(cli: Cli, app: str) -> None:
    run_id = run(cli, app, "good", "--id", "nightly")

    for ref in (run_id, run_id[-8:], "nightly"):
        assert cli("show", ref, "--json").json["summary"]["run_id"] == run_id


def test_a_run_is_shown_whole(cli: Cli, app: str) -> None:
    run_id = run(cli, app, "bad", "--tag", "night")

    said = cli("show", run_id)

    assert said.code == 0
    for word in ("✗ FAILED", "✓ speak", "✗ fail", "night", "Inputs", "Outputs", "in fail",
                 "RuntimeError", f"taskiq-flow retry {run_id[-8:]}"):  # fmt: skip
        assert word in said.out + said.err


@pytest.mark.parametrize("colours", [False, True])
def test_nothing_that_a_run_holds_moves_the_terminal(
    cli: Cli, app: str, colours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With colours, the only escapes are those of the command itself."""
    run_id = run(cli, app, "bad", "--id", "n\x1b[2J\u202e")
    if colours:
        monkeypatch.setenv("FORCE_COLOR", "1")
    for words in (
        ["list"],
        ["show", run_id],
        ["logs", run_id],
        ["watch", run_id],
        ["dag", run_id],
        ["dag", run_id, "-f", "mermaid"],
        ["dlq", "list"],
        ["show", run_id, "--json"],
        ["list", "--json"],
        ["logs", run_id, "--json"],
        ["show", "\x1b[31m\u202e"],
    ):
        said = cli(*words)
        text = OWN.sub("", said.out + said.err)
        assert text
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e]", text), words
        assert "\x1b[31mred" not in said.out
        assert len(text) < 400_000
    assert "[bold]b[/bold]" in cli("logs", run_id).out


def test_a_result_that_is_text_moves_no_terminal_either(cli: Cli, app: str) -> None:
    module = f"spoken_{app}"
    (cli.directory / f"{module}.py").write_text(
        f"from {app} import Pipeline, broker, speak\np = Pipeline(broker).call_next(speak)\n"
    )

    said = cli("run", module, "-q", "-a", "5")

    assert said.code == 0
    assert "[bold]b[/bold]" in said.out
    assert not set(said.out) & set("\x1b\x07\u202e\u200f")


def test_logs_come_in_order_and_of_one_step(cli: Cli, app: str) -> None:
    run_id = run(cli, app, "bad")

    lines = [line for line in cli("logs", run_id, "--json").out.splitlines() if line]

    assert len(lines) == 2
    assert '"message":"hello 5"' in lines[0]
    assert "hello 5" in cli("logs", run_id, "--step", "speak", "--follow").out
    assert cli("logs", run_id, "--step", "fail").out == ""


@pytest.mark.parametrize("kind", ["ascii", "mermaid", "dot", "svg", "json"])
def test_graphs_are_drawn_of_pipelines_and_of_runs(cli: Cli, app: str, kind: str) -> None:
    run_id = run(cli, app, "bad")

    before = cli("dag", f"{app}:bad", "--format", kind)
    after = cli("dag", run_id, "--format", kind)
    cli("dag", f"{app}:bad", "--format", kind, "--output", "picture")

    for said in (before, after):
        assert said.code == 0
        assert "speak" in said.out
    if kind != "mermaid":  # it draws no states
        assert before.out != after.out
    if kind != "json":
        assert "speak" in (cli.directory / "picture").read_text(encoding="utf-8")


def test_watching_says_by_its_exit_code_how_the_run_ended(cli: Cli, app: str) -> None:
    good, bad = run(cli, app, "good"), run(cli, app, "bad")

    assert cli("watch", good).code == 0
    assert cli("watch", bad).code == 1
    events = cli("watch", good, "--json").out.splitlines()
    assert '"type":"run_completed"' in events[-1]


def test_watching_without_a_run_shows_those_that_go_on(cli: Cli, app: str) -> None:
    run(cli, app, "waiting", "--timeout", "0.05")

    assert "Nothing is running." in cli("watch").out


def test_where_no_runs_were_started_it_says_what_to_give(cli: Cli) -> None:
    said = cli("list")

    assert said.code == 2
    assert "--store URL" in said.err


def test_the_memory_of_another_process_is_refused(cli: Cli) -> None:
    assert "dies with its process" in cli("list", "--store", "memory://").err


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["list"], {"runs", "cursor", "total"}),
        (["dlq", "list"], {"letters", "cursor"}),
        (["doctor"], {"checks", "guarantee", "delivery", "health"}),
        (["migrate"], {"format", "passed"}),
        (["purge", "--older-than", "1d", "--yes"], {"removed"}),
    ],
)
def test_the_shapes_of_json_stay(cli: Cli, app: str, words: list[str], keys: set[str]) -> None:
    run(cli, app, "bad")

    said = cli(*words, "--json")

    assert set(said.json) == keys
    assert said.code == 0


def test_what_is_not_there_says_in_which_store_it_was_looked_for(cli: Cli, app: str) -> None:
    run_id = run(cli, app, "good")

    silent = cli("logs", run_id)
    absent = cli("show", "abcdef12", "--namespace", "other")
    none = cli("list", "--namespace", "other")

    place = "sqlite:///taskiq-flow.sqlite, namespace 'other'"
    assert (absent.code, absent.err.splitlines()[-1]) == (3, f"looked in {place}")
    assert none.err == f"No runs in {place}.\n"
    assert (silent.out, silent.err) == ("", "No lines.\n")


def test_looking_into_a_file_that_is_not_there_says_so_and_makes_none(cli: Cli) -> None:
    said = cli("list", "--store", "sqlite:///typo.db")

    assert said.code == 2
    assert "There is no file 'typo.db'" in said.err
    assert not (cli.directory / "typo.db").exists()
    assert cli("migrate", "--store", "sqlite:///typo.db").code == 0
    assert cli("list", "--store", "sqlite:///typo.db").code == 0


def test_a_run_whose_process_has_gone_says_so_and_how_to_go_on(cli: Cli, app: str) -> None:
    again = cli("retry", run(cli, app, "bad"), "--json").json["run_id"]
    # As if a minute had passed.
    with closing(sqlite3.connect("taskiq-flow.sqlite")) as file, file as database:
        database.execute("UPDATE taskiq_flow_slot SET ready_at = ready_at - 60, due = due - 60")

    listed, shown = cli("list"), cli("show", again)
    checks = {check["name"]: check for check in cli("doctor", "--json").json["checks"]}

    assert (checks["runs"]["verdict"], "1 of 1" in checks["runs"]["says"]) == ("note", True)
    assert checks["runs"]["says"].startswith("1 of 1 that go on stands still; ")
    assert "has the others" not in checks["runs"]["fix"]
    assert "no live process runs" in checks["runs"]["says"]
    assert "no live process runs the steps of queue local" in listed.out
    assert f"taskiq-flow run MODULE:PIPELINE --continue {again[-8:]}" in shown.out
