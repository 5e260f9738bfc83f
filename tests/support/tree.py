"""The files of this repository, for tests about the files themselves."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEAN = ROOT / "tests" / "integration" / "apps" / "lean"
"""Put on PYTHONPATH, it hides FastAPI from processes that are to start quickly."""
FOLDERS = ("src", "tests", "tools", "docs", "examples", "benchmarks", ".ci")
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yml",
    ".yaml",
    ".lua",
    ".html",
    ".css",
    ".js",
    ".sh",
    ".svg",
    ".txt",
}


def python_modules(folder: str) -> Iterator[Path]:
    """Yield the Python files under a folder of the repository."""
    yield from sorted((ROOT / folder).rglob("*.py"))


def text_files() -> Iterator[Path]:
    """Yield what people wrote here: not what tools made, and not what is only downloaded."""
    for path in sorted(ROOT.iterdir()):
        if path.is_file() and (path.suffix in TEXT or path.name == "Makefile"):
            yield path
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if (
                path.is_file()
                and (path.suffix in TEXT or not path.suffix)
                and path.name != "py.typed"
            ):
                yield path
