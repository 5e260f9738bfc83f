"""`taskiq-flow run`: a pipeline in this process, kept in a file, with exit codes."""

import json

import pytest

from tests.integration.cli.conftest import Cli

APP = """
from taskiq import InMemoryBroker
from taskiq_flow import DataflowPipeline, Pipeline, PipelineContext, pipeline_task

broker = InMemoryBroker()

@broker.task
async def add(value: int, other: int = 1) -> int:
    return value + other

@broker.task
async def check(value: int) -> int:
    if value < 0:
        raise ValueError(f"{value} is negative")
    return value

@broker.task
@pipeline_task(output="total")
async def total(prices: list[float]) -> float:
    return sum(prices)

@broker.task
@pipeline_task(output="mail")
async def mail(total: float, to: str) -> str:
    return f"{to}: {total}"

chain = Pipeline(broker).with_name("chain").call_next(add).call_next(check)
graph = DataflowPipeline.from_tasks(broker, [mail, total]).with_name("graph")
slow = Pipeline(broker).with_name("slow").call_next(add).sleep(60)

def made():
    return Pipeline(broker).with_name("made").call_next(check)

def needs(first, second):
    return chain

not_a_pipeline = 42
"""


@pytest.fixture
def app(cli: Cli) -> str:
    return cli.write(APP)


def test_the_result_goes_to_standard_output_and_the_rest_to_standard_error(
    cli: Cli, app: str
) -> None:
    said = cli("run", f"{app}:chain", "--arg", "41")

    assert (said.code, said.out) == (0, "42\n")
    assert "add: completed" in said.err
    assert "--continue" in said.err
    assert (cli.directory / "taskiq-flow.sqlite").exists()


def test_inputs_come_by_name_from_a_file_and_from_standard_input(cli: Cli, app: str) -> None:
    (cli.directory / "in.json").write_text(json.dumps({"prices": [1, 2.5], "to": "file"}))

    by_file = cli("run", f"{app}:graph", "-q", "--input-json", "in.json", "--json")
    by_name = cli("run", f"{app}:graph", "-q", "-i", "prices=[1, 2.5]", "-i", "to=you", "--json")
    piped = cli("run", f"{app}:graph", "-q", "--input-json", "-", "-i", "to=me", "--json",
                stdin='{"prices": [3], "to": "pipe"}')  # fmt: skip

    assert [said.json["result"]["mail"] for said in (by_file, by_name, piped)] == [
        "file: 3.5",
        "you: 3.5",
        "me: 3.0",
    ]


def test_a_failed_run_has_its_own_exit_code_and_says_how_to_go_on(cli: Cli, app: str) -> None:
    said = cli("run", f"{app}:chain", "--arg", "-9")

    assert (said.code, said.out) == (1, "")
    assert "ValueError: -8 is negative" in said.err
    assert f"taskiq-flow run {app}:chain --continue" in said.err
    assert "Traceback" not in said.err


def test_json_has_one_shape_for_a_result_and_for_a_failure(cli: Cli, app: str) -> None:
    good = cli("run", f"{app}:chain", "-q", "-a", "1", "--json").json
    bad = cli("run", f"{app}:chain", "-q", "-a", "-9", "--json").json

    assert set(good) == set(bad)
    assert set(good) == {"run_id", "pipeline_id", "status", "duration_ms", "result", "error"}
    assert (good["status"], good["result"], good["error"]) == ("COMPLETED", 2, None)
    assert bad["status"] == "FAILED"
    assert bad["error"]["type"] == "ValueError"
    assert bad["error"]["step"] == "check"


def test_a_failed_run_goes_on_in_a_new_one_that_keeps_what_is_done(cli: Cli, app: str) -> None:
    failed = cli("run", f"{app}:chain", "-q", "-a", "-9", "--json").json

    again = cli("run", f"{app}:chain", "-q", "--continue", failed["run_id"][-8:], "--json").json

    shown = cli("show", again["run_id"], "--json").json
    assert shown["retry_of"] == failed["run_id"]
    assert [step["is_taken_over"] for step in shown["steps"]] == [True, False]


def test_a_run_that_completed_is_told_again(cli: Cli, app: str) -> None:
    done = cli("run", f"{app}:chain", "-q", "-a", "1", "--json").json

    again = cli("run", f"{app}:chain", "-q", "--continue", done["run_id"], "--json").json

    assert (again["run_id"], again["result"]) == (done["run_id"], 2)


def test_functions_files_and_the_only_pipeline_of_a_module_are_found(cli: Cli, app: str) -> None:
    only = "only_" + app
    (cli.directory / f"{only}.py").write_text(
        f"from {app} import Pipeline, broker, check\np = Pipeline(broker).call_next(check)\n"
    )

    assert cli("run", f"{app}:made", "-q", "-a", "7").out == "7\n"
    assert cli("run", f"{app}.py:made", "-q", "-a", "7").out == "7\n"
    assert cli("run", only, "-q", "-a", "8").out == "8\n"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nowhere:pipeline"], 2, "no module 'nowhere'"),
        (["{app}:nothing"], 2, "Its pipelines are: chain, graph, slow"),
        (["{app}:not_a_pipeline"], 2, "it is a int, no pipeline"),
        (["{app}:needs"], 2, "it needs first, second"),
        (["{app}"], 2, "it has 3 pipelines"),
        (["missing.py:x"], 2, "no file missing.py"),
        (["{app}:chain", "-i", "value"], 2, "is not NAME=VALUE"),
        (["{app}:chain", "--input-json", "none.json"], 2, "cannot be read"),
        (["{app}:graph", "-i", "to=x"], 2, "Missing input 'prices'"),
        (["{app}:graph", "-i", "to=x", "-i", "prices=[]", "-i", "x=1"], 2, "Unknown input 'x'"),
        (["{app}:chain", "--detach"], 2, "needs --broker"),
        (["{app}:chain", "--continue", "abcdef12"], 3, "No run has the id 'abcdef12'"),
        (["{app}:chain", "-a", "1", "--store", "nonsense"], 2, "is not a store URL"),
        (["{app}:chain", "-a", "1", "--store", "sqlite:////nowhere/x.db"], 4, "cannot be reached"),
        (["{app}:chain", "--broker", "{app}:chain"], 2, "no broker"),
    ],
)
def test_what_cannot_work_is_one_sentence_and_an_exit_code(
    cli: Cli, app: str, words: list[str], code: int, says: str
) -> None:
    said = cli("run", *(word.format(app=app) for word in words))

    assert says in said.err
    assert said.code == code
    assert "Traceback" not in said.err


def test_errors_are_values_too_where_json_is_asked_for(cli: Cli, app: str) -> None:
    assert cli("migrate", "--store", "sqlite:///x.sqlite").code == 0

    said = cli("show", "nothing", "--json", "--store", "sqlite:///x.sqlite")

    assert said.code == 3
    assert said.json["error"]["type"] == "RunNotFoundError"
    assert said.json["error"]["exit_code"] == 3


def test_the_traceback_of_an_error_is_there_for_who_wants_it(cli: Cli, app: str) -> None:
    said = cli("run", f"{app}:nothing", "--debug")

    assert "AttributeError" in said.err


def test_a_module_that_cannot_be_imported_says_why(cli: Cli) -> None:
    broken = cli.write("raise RuntimeError('no [red]config')")
    lacking = cli.directory / "app_lacking.py"
    lacking.write_text("import not_installed_at_all")

    assert "raised RuntimeError: no [red]config" in cli("run", f"{broken}:p").err
    assert "imports 'not_installed_at_all'" in cli("run", "app_lacking:p").err


def test_two_runs_of_one_name_never_go_on_together(cli: Cli, app: str) -> None:
    held = cli("run", f"{app}:slow", "-q", "-a", "1", "--id", "one", "--timeout", "0.2", "--json")

    assert held.json["status"] == "FAILED"
    assert held.json["pipeline_id"] == "one"
    assert "timeout" in held.json["error"]["message"]


def test_a_pipeline_of_another_broker_runs_here_without_that_broker(cli: Cli) -> None:
    """Its tasks, its state and its child runs too; nothing is sent to its Redis."""
    app = cli.write(
        """
from taskiq_redis import ListQueueBroker
from taskiq import TaskiqEvents, TaskiqState, Context, TaskiqDepends
from taskiq_flow import Pipeline, PipelineMiddleware

broker = ListQueueBroker("redis://localhost:1/0")
broker.add_middlewares(PipelineMiddleware())

@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def prepare(state: TaskiqState) -> None:
    state.factor = 10

@broker.task
async def scale(value: int, context: Context = TaskiqDepends()) -> int:
    return value * context.state.factor

@broker.task
async def split(value: int) -> list[int]:
    return list(range(value))

part = Pipeline(broker).with_name("part").call_next(scale)
pipeline = Pipeline(broker).call_next(split).map(part)
"""
    )

    said = cli("run", f"{app}:pipeline", "-q", "-a", "4", "--json")

    assert said.json["result"] == [0, 10, 20, 30]
    assert said.code == 0
