"""How the documentation's blocks are read and run: the rules that CONTRIBUTING.md states."""

import asyncio
from pathlib import Path

from tools.docs_blocks import Block, python_blocks, run

PAGE = """\
# A page

<!-- needs: redis, postgres -->
```python
first = 1
```

```sh
make test
```

<!-- not-run: it needs a cluster -->

```python
await nowhere()
```

1. In a list:

    ```py
    if True:
        second = 2
    ```
"""


def _blocks(tmp_path: Path, text: str) -> list[Block]:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return python_blocks(page)


def test_a_comment_before_a_block_says_what_it_needs_or_why_it_is_not_run(tmp_path: Path) -> None:
    first, second, third = _blocks(tmp_path, PAGE)

    assert (first.needs, first.not_run) == ({"redis", "postgres"}, None)
    assert (second.needs, second.not_run) == (frozenset(), "it needs a cluster")
    assert (third.needs, third.not_run) == (frozenset(), None)


def test_a_block_is_read_without_the_indent_of_its_list(tmp_path: Path) -> None:
    *_, last = _blocks(tmp_path, PAGE)

    assert last.source == "if True:\n    second = 2\n"


def test_blocks_share_names_and_may_await_or_run_a_loop_of_their_own(tmp_path: Path) -> None:
    page = """\
```python
import asyncio

async def double(number):
    return 2 * number

one = await double(1)
```
```python
two = asyncio.run(double(one))
```
"""
    namespace: dict[str, object] = {}

    with asyncio.Runner() as runner:
        for block in _blocks(tmp_path, page):
            run(block, namespace, runner)

    assert namespace["two"] == 4


def test_an_error_names_the_line_of_the_page(tmp_path: Path) -> None:
    (block,) = _blocks(tmp_path, "Text\n\n```python\nok = 1\n1 / 0\n```\n")

    with asyncio.Runner() as runner:
        try:
            run(block, {}, runner)
        except ZeroDivisionError as error:
            trace = error.__traceback__

    while trace.tb_next is not None:
        trace = trace.tb_next
    assert trace.tb_lineno == 5
