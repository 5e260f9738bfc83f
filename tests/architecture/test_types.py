"""What a type checker knows of the result of a pipeline that was built of typed tasks."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.tree import ROOT

SNIPPET = """
from taskiq import InMemoryBroker

from taskiq_flow import DataflowPipeline, Pipeline

broker = InMemoryBroker()


@broker.task
async def count(text: str) -> int:
    return len(text)


@broker.task
def name(number: int) -> str:
    return str(number)


@broker.task
def total(values: list[int]) -> int:
    return sum(values)


async def main() -> None:
    first = await Pipeline(broker, count).kiq("a")
    reveal_type((await first.wait_result()).return_value)  # int

    chain = Pipeline(broker).call_next(count).call_next(name)
    second = await chain.with_retry(3).with_timeout(5).with_id("x").kiq("a")
    reveal_type((await second.wait_result()).return_value)  # str

    mapped = await chain.map(count, max_parallel=2).kiq("a")
    reveal_type((await mapped.wait_result()).return_value)  # list[int]

    kept = await Pipeline(broker).map(name, [1, 2]).filter(count).kiq()
    reveal_type((await kept.wait_result()).return_value)  # list[str]

    reduced = await Pipeline(broker).map(count, ["a"]).reduce(total).kiq()
    reveal_type((await reduced.wait_result()).return_value)  # int

    within = Pipeline(broker).call_next(Pipeline(broker, count)).map(Pipeline(broker, name))
    inner = await within.kiq("a")
    reveal_type((await inner.wait_result()).return_value)  # list[str]

    passed = await Pipeline(broker, count).call_after(name, 1).kiq("a")
    reveal_type((await passed.wait_result()).return_value)  # int

    graph = await DataflowPipeline(broker, [count]).kiq(text="a")
    reveal_type((await graph.wait_result()).return_value)  # dict[str, Any]
"""


def test_a_checker_knows_what_a_typed_pipeline_returns(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(SNIPPET, encoding="utf-8")
    settings = {
        "include": ["snippet.py"],
        "extraPaths": [str(ROOT / "src")],
        "typeCheckingMode": "strict",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")

    checked = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    found = json.loads(checked.stdout)["generalDiagnostics"]
    revealed = [
        line["message"].rpartition(' is "')[2].rstrip('"')
        for line in found
        if line["severity"] == "information"
    ]
    assert revealed == [line.rpartition("# ")[2] for line in SNIPPET.splitlines() if "# " in line]
    assert [line for line in found if line["severity"] == "error"] == []
