"""Measures one Python source file: its lines, its functions and how much they branch."""

from __future__ import annotations

import ast
import io
import threading
import token
import tokenize
import warnings
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

COMPLEXITY_STEPS = (1, 2, 3, 5, 10, 20)
"""Where each class of complexity begins; the last has no upper end."""


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

    ``public`` counts functions and classes without an underscore in front of any part of their
    name, ``documented`` those of them with a docstring. ``branching`` says how many functions are
    in each of the classes of `COMPLEXITY_STEPS`; ``notable`` are those that a list of the longest,
    most branching or deepest could want. ``imports`` are the top-level modules that the file
    names; relative imports are not counted. A file that is not valid Python has an ``error``,
    and of its measures only ``lines`` and ``size``.
    """

    path: str
    size: int
    lines: int
    code: int = 0
    docstring: int = 0
    comment: int = 0
    blank: int = 0
    functions: int = 0
    classes: int = 0
    public: int = 0
    documented: int = 0
    decisions: int = 0
    nesting: int = 0
    branching: tuple[int, ...] = ()
    notable: tuple[FunctionMeasure, ...] = ()
    imports: tuple[str, ...] = ()
    error: str | None = None


def measure_file(root: Path, path: str) -> FileMeasure:
    """Measure the file at ``path`` under ``root``; the same file always gives the same measure."""
    source = (root / path).read_bytes()
    size, lines = len(source), len(source.splitlines())
    try:
        survey = _survey(_parse(source))
        kinds = _kinds_of_lines(source, survey.scopes)
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError) as error:
        # The library has such files on purpose: they test what the compiler says of them.
        return FileMeasure(path, size, lines, error=_one_line(error))
    functions = [scope.measure() for scope in survey.scopes if isinstance(scope.node, _Function)]
    definitions = [scope for scope in survey.scopes if isinstance(scope.node, _Definition)]
    public = [scope for scope in definitions if scope.is_public]
    return FileMeasure(
        path=path,
        size=size,
        lines=lines,
        code=kinds.count("code"),
        docstring=kinds.count("docstring"),
        comment=kinds.count("comment"),
        blank=lines - len(kinds),
        functions=len(functions),
        classes=len(definitions) - len(functions),
        public=len(public),
        documented=sum(scope.docstring is not None for scope in public),
        decisions=sum(scope.decisions for scope in survey.scopes),
        nesting=max(scope.nesting for scope in survey.scopes),
        branching=_classes_of_complexity(functions),
        notable=tuple(sorted(filter(_is_notable, functions), key=lambda each: each.line)),
        imports=tuple(sorted(survey.imports)),
    )


# CPython 3.11 counts the depth of a syntax tree once for all threads of a process, and refuses one
# that another thread's garbage collection cut into; the filters of `warnings` are shared as well.
_one_at_a_time = threading.Lock()


def _parse(source: bytes) -> ast.Module:
    with _one_at_a_time, warnings.catch_warnings():
        # Old escapes and `is` with a literal: worth a warning to their authors, not to us.
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _one_line(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    where = f" (line {line})" if line else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())}{where}"


def _classes_of_complexity(functions: Iterable[FunctionMeasure]) -> tuple[int, ...]:
    counts = [0] * len(COMPLEXITY_STEPS)
    for each in functions:
        counts[bisect_right(COMPLEXITY_STEPS, each.complexity) - 1] += 1
    return tuple(counts)


def _is_notable(function: FunctionMeasure) -> bool:
    return function.lines >= 50 or function.complexity >= 10 or function.nesting >= 5


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


def _kinds_of_lines(source: bytes, scopes: Iterable[_Scope]) -> list[str]:
    """What each line that is not blank is, in no order."""
    kinds: dict[int, str] = {}
    for kind, _, (first, _), (last, _), _ in tokenize.tokenize(io.BytesIO(source).readline):
        if kind == token.COMMENT:
            kinds.setdefault(first, "comment")
        elif kind not in _NO_CODE:
            kinds.update(dict.fromkeys(range(first, last + 1), "code"))
    for string in filter(None, (scope.docstring for scope in scopes)):
        last = string.end_lineno or string.lineno
        kinds.update(dict.fromkeys(range(string.lineno, last + 1), "docstring"))
    return list(kinds.values())


# --- the tree ---------------------------------------------------------------------------------

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef
_Documented = _Definition | ast.Module
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
_DECIDING = frozenset({ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler})


@dataclass(slots=True)
class _Scope:
    """What was counted in a module, class or function, without the definitions in it."""

    name: str
    node: _Documented
    is_public: bool = True
    decisions: int = 0
    nesting: int = 0

    def inner(self, node: _Definition) -> _Scope:
        name = f"{self.name}.{node.name}" if self.name else node.name
        return _Scope(name, node, self.is_public and not node.name.startswith("_"))

    @property
    def docstring(self) -> ast.stmt | None:
        has_one = ast.get_docstring(self.node, clean=False) is not None
        return self.node.body[0] if has_one else None

    def measure(self) -> FunctionMeasure:
        assert isinstance(self.node, _Definition)
        first, last = self.node.lineno, self.node.end_lineno or self.node.lineno
        return FunctionMeasure(self.name, first, last - first + 1, 1 + self.decisions, self.nesting)


@dataclass(slots=True)
class _Survey:
    """What one walk over a tree has found; the module's own scope is the first."""

    scopes: list[_Scope]
    imports: set[str] = field(default_factory=set[str])


def _survey(tree: ast.Module) -> _Survey:
    """Walk over a tree once. Not by recursion: a chain of 1,000 `elif` is as many levels deep."""
    survey = _Survey([_Scope("", tree)])
    stack: list[tuple[ast.AST, _Scope, int]] = [(tree, survey.scopes[0], 0)]
    while stack:
        node, scope, depth = stack.pop()
        if isinstance(node, _Definition):
            scope, depth = scope.inner(node), 0
            survey.scopes.append(scope)
        elif isinstance(node, ast.Import):
            survey.imports.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                survey.imports.add(node.module.partition(".")[0])
        else:
            scope.decisions += _decisions(node)
        inner = depth
        if isinstance(node, _COMPOUND):
            inner = depth + 1
            scope.nesting = max(scope.nesting, inner)
        stack.extend(
            (child, scope, depth if _is_elif(node, child) else inner)
            for child in ast.iter_child_nodes(node)
        )
    return survey


def _is_elif(node: ast.AST, child: ast.AST) -> bool:
    """Whether a child stands as deep as its parent: an `elif`, which is an `if` to the parser."""
    return isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]


def _decisions(node: ast.AST) -> int:
    """In how many more ways than one control may leave this node."""
    if type(node) in _DECIDING:
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    if isinstance(node, ast.match_case):
        takes_the_rest = isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None
        return int(not takes_the_rest or node.guard is not None)
    return 0
