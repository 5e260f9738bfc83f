"""Build the wheel, install it without extras into a fresh environment, and use it there.

    python tools/bare_wheel.py [script.py ...]

It must hold every file of the packages, give every name of theirs without any optional dependency
(but for those that say which extra they need), and run the first Python block of the README (the
in-memory quickstart), then the given scripts.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

# Run as a script, Python looks for modules beside the file and not in the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.docs_blocks import Block, python_blocks

ROOT = Path(__file__).resolve().parent.parent

IMPORT_ALL = """
import importlib.util, sys
import taskiq_flow, fastapi_taskflow
from taskiq_flow.exceptions import MissingExtraError
extras = ["redis", "sqlalchemy", "fastapi", "starlette", "typer", "opentelemetry", "cryptography"]
present = [name for name in extras if importlib.util.find_spec(name)]
assert not present, f"not a bare environment: {present}"
lacking = set()
for package in (taskiq_flow, fastapi_taskflow):
    for name in package.__all__:
        try:
            getattr(package, name)
        except MissingExtraError:
            lacking.add(name)
assert lacking == {
    "ManagedBackgroundTasks", "PipelineVisualizationAPI", "RedisPipelineStorage",
    "SQLPipelineStorage", "TaskAdmin", "TaskManager", "create_visualization_api",
}, f"other names need an extra: {lacking}"
print("taskiq_flow and fastapi_taskflow import from", taskiq_flow.__path__[0])
"""

RUN_BLOCK = """
import ast, asyncio, inspect, sys
source = open(sys.argv[1], encoding="utf-8").read()
made = eval(compile(source, sys.argv[1], "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), globals())
if inspect.iscoroutine(made):
    asyncio.run(made)
"""


def main(scripts: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="taskiq-flow-wheel-") as made_in:
        directory = Path(made_in)
        wheel = _build(directory)
        missing = _missing_files(wheel)
        if missing:
            print("The wheel lacks:", *missing, sep="\n  ")
            return 1
        python = _install(wheel, directory / "venv")
        # In the temporary directory: the checkout's own `src` must not be what is imported.
        _call([python, "-I", "-c", IMPORT_ALL], directory)
        quickstart = _quickstart()
        if quickstart is not None:
            print(f"Running {quickstart.name} ...", flush=True)
            script = directory / "quickstart.py"
            script.write_text(quickstart.source, encoding="utf-8")
            _call([python, "-c", RUN_BLOCK, str(script)], directory)
        for script in scripts:
            _call([python, str(Path(script).resolve())], directory)
    print("The bare wheel is fine.")
    return 0


def _build(directory: Path) -> Path:
    _call(
        [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(directory)],
        ROOT,
    )
    return next(directory.glob("*.whl"))


def _missing_files(wheel: Path) -> list[str]:
    held = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    return sorted(wanted - held)


def _install(wheel: Path, venv: Path) -> str:
    python = str(venv / "bin" / "python")
    uv = [sys.executable, "-m", "uv"]
    _call([*uv, "venv", "--quiet", "--python", sys.executable, str(venv)], ROOT)
    _call([*uv, "pip", "install", "--quiet", "--python", python, str(wheel)], ROOT)
    return python


def _quickstart() -> Block | None:
    readme = ROOT / "README.md"
    if not readme.exists():
        return None
    return next((block for block in python_blocks(readme) if block.not_run is None), None)


def _call(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, check=False, timeout=300)
    if done.returncode != 0:
        print(f"Exit code {done.returncode} of: {' '.join(command)[:300]}", flush=True)
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
