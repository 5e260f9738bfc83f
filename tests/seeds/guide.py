"""How the code blocks of a documented text are run: as written, one after another."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from types import CodeType
from typing import Any

HERE = Path(__file__).parent


class Guide:
    """A documented text whose blocks share their names, as those of one script do.

    The texts have lost their indentation and blank lines; the blocks in the tests have them
    again, and are compared with the text word by word.
    """

    def __init__(self, text: str, module: str, **names: Any) -> None:
        self._lines = list(_words((HERE / text).read_text(encoding="utf-8")))
        # Tasks are called after their module: the same here and on a worker.
        self.names: dict[str, Any] = {"__name__": module, **names}

    def __getitem__(self, name: str) -> Any:
        return self.names[name]

    async def run(self, block: str, replace: Mapping[str, str] | None = None, **names: Any) -> None:
        """Run a block of the text, with these names set before.

        ``replace`` says what of it cannot run as written, and what stands in for it.
        """
        self.names.update(names)
        made = eval(self._compile(block, replace or {}), self.names)
        if inspect.iscoroutine(made):
            await made

    def define(self, block: str, replace: Mapping[str, str] | None = None) -> None:
        """Run a block that awaits nothing."""
        eval(self._compile(block, replace or {}), self.names)

    def _compile(self, block: str, replace: Mapping[str, str]) -> CodeType:
        source = dedent(block)
        assert self._has(source), f"the text has no such block:\n{source}"
        for old, new in replace.items():
            assert old in source, f"there is no {old!r} to be replaced in:\n{source}"
            source = source.replace(old, new)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return compile(source, "<a block of the guide>", "exec", flags, dont_inherit=True)

    def _has(self, source: str) -> bool:
        wanted = list(_words(source))
        starts = (number for number, line in enumerate(self._lines) if line == wanted[0])
        return any(self._lines[at : at + len(wanted)] == wanted for at in starts)


def _words(text: str) -> Iterator[list[str]]:
    """The words of each line that has any."""
    return (line.split() for line in text.splitlines() if line.strip())
