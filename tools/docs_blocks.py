"""The Python blocks of the documentation: where they stand, what they need, how to run them."""

import ast
import asyncio
import inspect
import linecache
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^`]*$")
_MARK = re.compile(r"^\s*<!--\s*(?P<word>needs|not-run)\b:?\s*(?P<rest>.*?)\s*-->\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced Python block.

    An HTML comment on the line before the fence says more: `<!-- needs: redis -->` names the
    servers without which it is skipped, `<!-- not-run: reason -->` that it is only compiled.
    """

    file: Path
    line: int
    source: str
    needs: frozenset[str] = frozenset()
    not_run: str | None = None

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}"

    def compile(self) -> CodeType:
        """Compile the block so that it may `await` at its top level, with its true line numbers."""
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        # Blank lines first: a traceback then points into the document.
        source = "\n" * (self.line - 1) + self.source
        linecache.cache[self.name] = (
            len(source),
            None,
            source.splitlines(keepends=True),
            self.name,
        )
        return compile(source, self.name, "exec", flags, dont_inherit=True)

    def imports(self) -> Iterator[tuple[str, str | None]]:
        """Yield what the block imports: (module, None), or (module, name) for `from` imports."""
        for node in ast.walk(ast.parse(self.source)):
            if isinstance(node, ast.Import):
                yield from ((alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                yield from ((node.module, alias.name) for alias in node.names)


def python_blocks(file: Path) -> list[Block]:
    """Read the Python blocks of a Markdown file, in order."""
    blocks: list[Block] = []
    mark: re.Match[str] | None = None
    lines = iter(enumerate(file.read_text(encoding="utf-8").splitlines(), start=1))
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            # A blank line may stand between the comment and its block.
            mark = _MARK.match(line) or (mark if not line.strip() else None)
            continue
        body = list(_until_closed(lines, len(fence["indent"])))
        if fence["language"] in {"python", "py"}:
            word, rest = (mark["word"], mark["rest"]) if mark else ("", "")
            blocks.append(
                Block(
                    file,
                    number + 1,
                    "\n".join(body) + "\n",
                    needs=frozenset(re.findall(r"\w+", rest)) if word == "needs" else frozenset(),
                    not_run=rest or "no reason given" if word == "not-run" else None,
                )
            )
        mark = None
    return blocks


def documents(root: Path) -> list[Path]:
    """List the Markdown files whose blocks are promises."""
    readme = root / "README.md"
    return [*([readme] if readme.exists() else []), *sorted((root / "docs").rglob("*.md"))]


def run(block: Block, namespace: dict[str, object], runner: asyncio.Runner) -> None:
    """Run a block in the given namespace; one that awaits runs in the runner's loop."""
    code = block.compile()
    # One without an `await` runs outside of any loop, so that it may call `asyncio.run` itself.
    made = eval(code, namespace)
    if inspect.iscoroutine(made):
        runner.run(made)


def _until_closed(lines: Iterator[tuple[int, str]], indent: int) -> Iterator[str]:
    for _, line in lines:
        if line.strip() == "```":
            return
        yield line[indent:] if line[:indent].isspace() else line
