"""The Python blocks of the documentation run as written, each file from top to bottom."""

import asyncio
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.fixtures import address_of
from tests.support.tree import ROOT
from tools.docs_blocks import Block, documents, python_blocks, run
from tools.servers import variable

SERVER_OF_SCHEME = {"redis": "redis", "postgresql": "postgres", "amqp": "rabbitmq", "nats": "nats"}
# What a page shows: a server of its kind on this machine, with or without account, port and path.
LOCAL_ADDRESS = re.compile(
    rf"(?P<scheme>{'|'.join(SERVER_OF_SCHEME)})(?P<driver>\+\w+)?://(?:[^\s\"'/]*@)?localhost[^\s\"']*"
)
FILES = [file for file in documents(ROOT) if python_blocks(file)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run_in_order(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that needs a server which is not here is left out; so are the blocks that are not to
    be run. A page of which something was left out for a server counts as skipped, after its other
    blocks have run."""
    # What a reader's script is: the main module, so that types and tasks are found by its name.
    page = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", page)
    # What a page writes to the working directory must not stay.
    monkeypatch.chdir(tmp_path)
    left_out: set[str] = set()

    with asyncio.Runner() as runner:
        for block in python_blocks(file):
            missing = {name for name in block.needs if variable(name) not in os.environ}
            left_out |= missing
            if block.not_run is None and not missing:
                run(_with_real_addresses(block), vars(page), runner)

    for name in sorted(left_out):
        address_of(name)


def _with_real_addresses(block: Block) -> Block:
    def real(shown: re.Match[str]) -> str:
        name = SERVER_OF_SCHEME[shown["scheme"]]
        if name not in block.needs:
            return shown[0]
        scheme, rest = address_of(name).split("://", 1)
        return f"{scheme}{shown['driver'] or ''}://{rest}"

    return replace(block, source=LOCAL_ADDRESS.sub(real, block.source))
