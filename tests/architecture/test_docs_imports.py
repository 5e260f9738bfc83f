"""Whatever the documentation imports exists under that name."""

import importlib

import pytest

from tests.support.tree import ROOT
from tools.docs_blocks import Block, documents, python_blocks

BLOCKS = [block for file in documents(ROOT) for block in python_blocks(file)]


def _name(block: Block) -> str:
    return f"{block.file.relative_to(ROOT).as_posix()}:{block.line}"


@pytest.mark.parametrize("block", BLOCKS, ids=_name)
def test_every_block_compiles(block: Block) -> None:
    block.compile()


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.not_run is None], ids=_name)
def test_every_import_of_a_block_finds_its_name(block: Block) -> None:
    for module, name in block.imports():
        imported = importlib.import_module(module)
        if name is not None and name != "*" and not hasattr(imported, name):
            importlib.import_module(f"{module}.{name}")
