"""Packages load what a name needs when the name is first used, and not before."""

import ast
import importlib
import json
import os
import pkgutil
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch

import pytest

from tests.support.tree import LEAN, ROOT

SOURCE = ROOT / "src"


@dataclass(frozen=True)
class Package:
    """What the file of a package says of its names: three lists that must agree."""

    name: str
    checked: dict[str, str]
    homes: dict[str, str]
    eager: frozenset[str]
    public: list[str]
    is_hidden: bool


def _read(name: str, source: str) -> Package:
    checked: dict[str, str] = {}
    homes: dict[str, str] = {}
    eager: set[str] = set()
    public: list[str] = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING"), body=imports):
                for each in imports:
                    assert isinstance(each, ast.ImportFrom)
                    checked |= {alias.name: each.module or "" for alias in each.names}
            case ast.Call(func=ast.Name("loading"), args=[_, table]):
                homes = ast.literal_eval(table)
            case ast.Assign(targets=[ast.Name("__all__")], value=names):
                public = ast.literal_eval(names)
            case _:
                pass
    is_hidden = False
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            eager |= {alias.name for alias in node.names}
        if isinstance(node, ast.If) and ast.unparse(node.test) == "not TYPE_CHECKING":
            is_hidden = "loading(" in ast.unparse(node)
    return Package(name, checked, homes, frozenset(eager), public, is_hidden)


def _packages() -> list[Package]:
    found: list[Package] = []
    for file in sorted(SOURCE.rglob("__init__.py")):
        text = file.read_text(encoding="utf-8")
        if "loading(" in text:
            found.append(_read(".".join(file.parent.relative_to(SOURCE).parts), text))
    return found


PACKAGES = _packages()
each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


@each_package
def test_checkers_do_not_see_what_would_let_any_name_pass(package: Package) -> None:
    assert package.is_hidden, "call loading() under `if not TYPE_CHECKING:`"


def test_both_packages_load_at_first_use() -> None:
    assert {"taskiq_flow", "fastapi_taskflow"} <= {package.name for package in PACKAGES}


@each_package
def test_checkers_and_the_table_say_the_same_of_every_public_name(package: Package) -> None:
    assert package.homes == package.checked
    assert set(package.public) == set(package.homes) | (package.eager & set(package.public))
    assert len(set(package.public)) == len(package.public)


@each_package
def test_every_name_is_listed_and_is_what_its_home_has(package: Package) -> None:
    module = importlib.import_module(package.name)

    assert set(package.public) <= set(dir(module))
    for name, home in package.homes.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
        assert vars(module)[name] is getattr(module, name)


@each_package
def test_no_name_is_also_that_of_a_module_which_would_take_its_place(package: Package) -> None:
    inside = pkgutil.iter_modules(importlib.import_module(package.name).__path__)

    assert not {module.name for module in inside} & set(package.homes)


@each_package
def test_a_wrong_name_is_an_error_of_the_usual_kind(package: Package) -> None:
    module = importlib.import_module(package.name)
    said = f"^module {package.name!r} has no attribute 'nonsense'$"

    with pytest.raises(AttributeError, match=said):
        module.nonsense  # noqa: B018 - asking is the test
    with pytest.raises(ImportError, match="cannot import name 'nonsense' from"):
        exec(f"from {package.name} import nonsense")


@each_package
def test_a_module_of_a_package_is_there_without_an_import_of_its_own(package: Package) -> None:
    module = importlib.import_module(package.name)
    names = [each.name for each in pkgutil.iter_modules(module.__path__) if each.name != "__main__"]
    inside = f"{package.name}.{names[-1]}"
    vars(module).pop(names[-1], None)

    assert getattr(module, names[-1]) is importlib.import_module(inside)


@each_package
def test_an_import_of_everything_gets_every_name(package: Package) -> None:
    names: dict[str, object] = {}

    exec(f"from {package.name} import *", names)

    assert set(package.public) <= set(names)


# -- what is not loaded, in processes of their own

NOT_FOR_A_CHAIN = (
    *(f"taskiq_flow.{name}" for name in (
        "api", "cache", "cli", "dashboard", "databases", "execution_engine", "map_reduce",
        "middlewares", "operations", "result_backends", "scheduling", "security", "storage",
        "testing", "tracing",
    )),
    *(f"taskiq_flow.{name}.*" for name in ("display", "hooks", "metrics")),
    "taskiq_flow.compile.graph", "taskiq_flow.dataflow.builder", "taskiq_flow.dataflow.dag",
    "taskiq_flow.dataflow.registry", "taskiq_flow.engine.dead_letters",
    "taskiq_flow.engine.tracked", "taskiq_flow.optimization.resources",
    "taskiq_flow.pipeline.dataflow", "taskiq_flow.stores.redis*", "taskiq_flow.stores.sql",
    "taskiq_flow.tracking.manager", "taskiq_flow.tracking.memory", "taskiq_flow.tracking.mirror",
    "taskiq_flow.visualization.model", "taskiq_flow.visualization.svg",
    "cronsim", "jinja2", "networkx", "prometheus_client", "redis", "rich", "sqlalchemy", "typer",
)  # fmt: skip
"""What a script that runs a chain on an in-memory broker has no use for."""

CHAIN = """
import asyncio, json, sys

import taskiq_flow

print(json.dumps([name for name in sys.modules if name.partition(".")[0].startswith("taskiq")]))

from taskiq import InMemoryBroker
from taskiq_flow import Pipeline, PipelineMiddleware

broker = InMemoryBroker()
broker.add_middlewares(PipelineMiddleware())

@broker.task
async def double(number: int) -> int:
    return number * 2

async def main():
    task = await Pipeline(broker, double).call_next(double).kiq(3)
    assert (await task.wait_result()).return_value == 12

asyncio.run(main())
print(json.dumps([*sys.modules]))
"""


def _lines(script: str) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"PYTHONPATH": f"{LEAN}{os.pathsep}{SOURCE}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_script_loads_what_it_uses_and_nothing_else() -> None:
    at_import, after_a_run = _lines(CHAIN)

    assert sorted(at_import) == ["taskiq_flow", "taskiq_flow.first_use"]
    known = [path.relative_to(SOURCE).with_suffix("") for path in SOURCE.rglob("*.py")]
    ours = {".".join(path.parts).removesuffix(".__init__") for path in known}
    for pattern in NOT_FOR_A_CHAIN:
        if pattern.startswith("taskiq_flow"):
            assert any(fnmatch(name, pattern) for name in ours), f"nothing is called {pattern}"
        assert not [name for name in after_a_run if fnmatch(name, pattern)], pattern


def test_a_broker_gets_its_engine_where_nobody_has_loaded_one_yet() -> None:
    [added] = _lines(
        """
import json
from taskiq import InMemoryBroker
from taskiq_flow import PipelineTrackingManager, Task

broker, other = InMemoryBroker(), InMemoryBroker()
Task("a-run", broker)
PipelineTrackingManager().attach(other)
print(json.dumps([type(each.middlewares[0]).__name__ for each in (broker, other)]))
"""
    )

    assert added == ["PipelineMiddleware", "PipelineMiddleware"]


def test_the_help_of_the_command_line_waits_for_no_engine() -> None:
    [loaded] = _lines(
        """
import contextlib, io, json, sys
from taskiq_flow.cli.__main__ import main

sys.argv = ["taskiq-flow", "--help"]
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
    main()
assert "send-event" in said.getvalue()
print(json.dumps([name for name in sys.modules if name.partition(".")[0].startswith("taskiq")]))
"""
    )

    assert sorted(loaded) == [
        "taskiq_flow", "taskiq_flow.cli", "taskiq_flow.cli.__main__", "taskiq_flow.cli.app",
        "taskiq_flow.first_use",
    ]  # fmt: skip
