"""Measures one Python source file: its lines, its functions and how much they branch."""

from __future__ import annotations

import ast
import io
import token
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FunctionMeasure:
    """One function or method; ``name`` has the classes and functions around it.

    ``complexity`` is McCabe's: 1, and 1 more for each place where control may go another way.
    ``nesting`` is how deep its compound statements stand in each other.
    """

    name: str
    line: int
    lines: int
    complexity: int
    nesting: int


@dataclass(frozen=True, slots=True)
class FileMeasure:
    """One file. A line is code, docstring, comment or blank; mixed ones count as code.

    ``decisions`` are those of the whole file, also outside of functions. ``imports`` are the
    top-level modules that it names, itself included, relative imports not. A file that is not
    valid Python has an ``error``, and of its measures only ``lines`` and ``size``.
    """

    path: str
    size: int
    lines: int
    code: int = 0
    docstring: int = 0
    comment: int = 0
    blank: int = 0
    classes: int = 0
    documented: int = 0
    decisions: int = 0
    functions: tuple[FunctionMeasure, ...] = ()
    imports: tuple[str, ...] = ()
    error: str | None = None


def measure_file(root: Path, path: str) -> FileMeasure:
    """Measure the file at ``path`` under ``root``; the same file always gives the same measure."""
    source = (root / path).read_bytes()
    size, lines = len(source), len(source.splitlines())
    try:
        tree = _parse(source)
        kinds = _kinds_of_lines(source, tree)
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError) as error:
        # The library has such files on purpose: they test what the compiler says of them.
        return FileMeasure(path, size, lines, error=_one_line(error))
    definitions = list(_definitions(tree))
    functions = tuple(
        _measure_function(name, node)
        for name, node in definitions
        if not isinstance(node, ast.ClassDef)
    )
    return FileMeasure(
        path=path,
        size=size,
        lines=lines,
        code=kinds.count("code"),
        docstring=kinds.count("docstring"),
        comment=kinds.count("comment"),
        blank=lines - len(kinds),
        classes=len(definitions) - len(functions),
        documented=sum(ast.get_docstring(node, clean=False) is not None for _, node in definitions),
        decisions=sum(_decisions(node) for node in ast.walk(tree)),
        functions=functions,
        imports=tuple(sorted(_imports(tree))),
    )


def _parse(source: bytes) -> ast.Module:
    with warnings.catch_warnings():
        # Old escapes and `is` with a literal: worth a warning to their authors, not to us.
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _one_line(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    where = f" (line {line})" if line else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())}{where}"


# --- lines ------------------------------------------------------------------------------------

_NO_CODE = frozenset(
    {
        token.NEWLINE,
        token.NL,
        token.INDENT,
        token.DEDENT,
        token.ENCODING,
        token.ENDMARKER,
        token.COMMENT,
    }
)
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _kinds_of_lines(source: bytes, tree: ast.Module) -> list[str]:
    """What each line that is not blank is, in no order."""
    kinds: dict[int, str] = {}
    for each in tokenize.tokenize(io.BytesIO(source).readline):
        if each.type == token.COMMENT:
            kinds.setdefault(each.start[0], "comment")
        elif each.type not in _NO_CODE:
            for line in range(each.start[0], each.end[0] + 1):
                kinds[line] = "code"
    for first, last in _docstrings(tree):
        for line in range(first, last + 1):
            kinds[line] = "docstring"
    return list(kinds.values())


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, int]]:
    for node in ast.walk(tree):
        if not isinstance(node, _Definition | ast.Module):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            string = node.body[0]
            yield string.lineno, string.end_lineno or string.lineno


# --- functions --------------------------------------------------------------------------------


def _definitions(tree: ast.Module) -> Iterator[tuple[str, _Definition]]:
    """Every function and class with its full name. Not recursive: a file may nest deeply."""
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        prefix, parent = stack.pop()
        for node in ast.iter_child_nodes(parent):
            inner = prefix
            if isinstance(node, _Definition):
                yield prefix + node.name, node
                inner = f"{prefix}{node.name}."
            stack.append((inner, node))


def _measure_function(name: str, function: _Function) -> FunctionMeasure:
    complexity, deepest = 1, 0
    stack: list[tuple[int, ast.AST]] = [(0, statement) for statement in function.body]
    while stack:
        depth, node = stack.pop()
        if isinstance(node, _Definition):
            continue  # measured by itself
        complexity += _decisions(node)
        deepest = max(deepest, depth + isinstance(node, _COMPOUND))
        stack.extend((_depth_within(depth, node, child), child) for child in _children(node))
    last = function.end_lineno or function.lineno
    return FunctionMeasure(
        name, function.lineno, last - function.lineno + 1, complexity, deepest
    )


_COMPOUND = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    return ast.iter_child_nodes(node)


def _depth_within(depth: int, node: ast.AST, child: ast.AST) -> int:
    """How deep a child stands; `elif` stands as deep as its `if`."""
    if not isinstance(node, _COMPOUND):
        return depth
    is_elif = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
    return depth if is_elif else depth + 1


def _decisions(node: ast.AST) -> int:
    """In how many more ways control may leave this node than one."""
    match node:
        case ast.BoolOp(values=values):
            return len(values) - 1
        case ast.comprehension(ifs=conditions):
            return 1 + len(conditions)
        case ast.match_case(pattern=ast.MatchAs(pattern=None), guard=None):
            return 0  # takes whatever is left
        case ast.If() | ast.IfExp() | ast.For() | ast.AsyncFor() | ast.While():
            return 1
        case ast.ExceptHandler() | ast.match_case():
            return 1
        case _:
            return 0


def _imports(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found.update(alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module.partition(".")[0])
            case _:
                pass
    return found
