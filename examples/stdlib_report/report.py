"""Writes the summary as one HTML page that loads nothing, for light and for dark screens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from examples.stdlib_report.measure import COMPLEXITY_STEPS, FunctionMeasure
from examples.stdlib_report.pictures import SHADES, scatter, treemap
from examples.stdlib_report.summary import (
    SINGLE_MODULES,
    Imported,
    Package,
    Ranked,
    Summary,
    Totals,
    Unreadable,
    is_test,
)

_STYLE = Path(__file__).with_name("report.css")
_MARK = (
    '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" '
    'stroke-linecap="round" aria-hidden="true"><circle cx="5" cy="6" r="2.4"/>'
    '<circle cx="5" cy="18" r="2.4"/><circle cx="19" cy="12" r="2.4"/>'
    '<path d="M7.4 6.6C12 8 12 11 16.6 12M7.4 17.4C12 16 12 13 16.6 12"/></svg>'
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the numbers are from: the Python that was measured, and the run that did it."""

    python: str
    root: str
    run: str
    started: str


def render(summary: Summary, origin: Origin) -> str:
    """Return the whole page; equal arguments give equal pages."""
    title = f"The standard library of Python {origin.python}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><main>{_header(title, summary, origin)}{_tiles(summary)}{_map(summary)}"
        f'<div class="halves"><div class="stack">{_scatter(summary)}{_branching(summary)}</div>'
        f'<div class="stack">{_packages(summary.packages)}</div></div>'
        f'<div class="halves">{_functions(summary)}{_imports(summary.imported)}</div>'
        f"{_unreadable(summary.unreadable)}{_footer(origin)}</main></body></html>\n"
    )


def _header(title: str, summary: Summary, origin: Origin) -> str:
    tests = summary.all.lines - summary.library.lines
    return (
        f'<header><div class="over">{_MARK}Taskiq-Flow demo</div><h1>{escape(title)}</h1>'
        f"<p>{summary.all.files:,} source files under <code>{escape(origin.root)}</code>, "
        f"{_share(tests, summary.all.lines)} of their lines being its own tests. "
        "Where nothing else is said, tests are left out below.</p></header>"
    )


# --- numbers ----------------------------------------------------------------------------------


def _tiles(summary: Summary) -> str:
    every, library = summary.all, summary.library
    per_file = every.lines / every.files if every.files else 0
    tiles = [
        ("Files", f"{every.files:,}", f"{library.files:,} without tests"),
        ("Lines", f"{every.lines:,}", f"{per_file:,.0f} a file"),
        ("Lines of code", f"{every.code:,}", f"{library.code:,} without tests"),
        ("Functions", f"{every.functions:,}", f"{library.functions:,} without tests"),
        ("Classes", f"{every.classes:,}", f"{library.classes:,} without tests"),
        (
            "Documented",
            _share(library.documented, library.public),
            f"of {library.public:,} public names",
        ),
    ]
    cells = "".join(
        f'<div class="tile"><dt>{name}</dt><dd>{value}</dd><dd>{more}</dd></div>'
        for name, value, more in tiles
    )
    return f'<dl class="panel tiles">{cells}</dl>'


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


# --- pictures ---------------------------------------------------------------------------------


def _map(summary: Summary) -> str:
    ramp = "".join(
        f'<rect class="d{shade}" x="{18 * shade}" width="18" height="10"/>'
        for shade in range(len(SHADES) + 1)
    )
    legend = (
        '<span class="legend">few decisions'
        f'<svg viewBox="0 0 126 10" aria-hidden="true">{ramp}</svg>'
        f"{SHADES[-1]} and more in 100 lines</span>"
    )
    library = [point for point in summary.points if not is_test(point.path)]
    return _panel(
        "Where the code is",
        "one rectangle a file; its size is its lines of code",
        f'<div class="body"><div class="scroll">{treemap(library)}</div></div>',
        legend,
    )


def _scatter(summary: Summary) -> str:
    legend = (
        '<span class="legend"><span class="key c-code"><i class="round"></i>library</span>'
        '<span class="key c-tests"><i class="round"></i>tests</span></span>'
    )
    return _panel(
        "Size against branching",
        "one point a file, tests too",
        f'<div class="body">{scatter(summary.points)}</div>',
        legend,
    )


def _branching(summary: Summary) -> str:
    starts = COMPLEXITY_STEPS
    names = [
        f"{start}" if end == start + 1 else f"{start} to {end - 1}"
        for start, end in pairwise(starts)
    ]
    names.append(f"{starts[-1]} and more")
    most = max(summary.branching, default=0) or 1
    functions = sum(summary.branching)
    rows = "".join(
        f'<li><span class="what">{name}</span><span class="stacked c-code" '
        f'style="width:{100 * count / most:.2f}%"><i style="flex:1"></i></span>'
        f'<span class="much">{count:,} · {_share(count, functions)}</span></li>'
        for name, count in zip(names, summary.branching, strict=True)
    )
    return _panel(
        "Complexity of functions",
        "McCabe's number: the ways through a function",
        f'<div class="body"><ol class="bars">{rows}</ol></div>',
    )


_KINDS = (
    ("code", "code", "code"),
    ("docstring", "doc", "docstrings"),
    ("comment", "comment", "comments"),
    ("blank", "blank", "blank"),
)


def _packages(packages: Sequence[Package]) -> str:
    shown = packages[:25]
    most = max((package.totals.lines for package in shown), default=0) or 1
    rows = "".join(_package(package, most) for package in shown)
    keys = "".join(f'<span class="key c-{name}"><i></i>{text}</span>' for _, name, text in _KINDS)
    rest = f"the {len(shown)} largest of {len(packages)}" if len(packages) > len(shown) else ""
    return _panel(
        "Packages by lines",
        rest,
        f'<div class="body"><ol class="bars">{rows}</ol></div>',
        f'<span class="legend">{keys}</span>',
    )


def _package(package: Package, most: int) -> str:
    totals = package.totals
    name = escape(package.name)
    what = name if package.name == SINGLE_MODULES else f"<code>{name}</code>"
    pieces = "".join(
        f'<i class="c-{kind}" style="flex:{getattr(totals, field)}"></i>'
        for field, kind, _ in _KINDS
    )
    return (
        f'<li title="{_lines_in_words(totals)}"><span class="what">{what}</span>'
        f'<span class="stacked" style="width:{100 * totals.lines / most:.2f}%">{pieces}</span>'
        f'<span class="much">{totals.lines:,}</span></li>'
    )


def _lines_in_words(totals: Totals) -> str:
    kinds = ", ".join(f"{getattr(totals, field):,} {text}" for field, _, text in _KINDS)
    return f"{totals.files:,} files: {kinds}"


# --- lists ------------------------------------------------------------------------------------


def _functions(summary: Summary) -> str:
    return "".join(
        [
            _ranking("Longest functions", "lines", summary.longest, lambda f: f.lines),
            _ranking(
                "Most branching functions",
                "complexity",
                summary.most_branching,
                lambda f: f.complexity,
            ),
            _ranking("Deepest nesting", "levels", summary.deepest, lambda f: f.nesting),
        ]
    )


def _ranking(
    title: str, unit: str, ranked: Sequence[Ranked], value: Callable[[FunctionMeasure], int]
) -> str:
    most = max((value(each.function) for each in ranked), default=0) or 1
    rows = (
        f'<tr><td class="rank">{place}</td>'
        f'<td title="{escape(each.function.name)}"><b class="mono">{escape(each.function.name)}</b>'
        f'</td><td class="where mono" title="{escape(each.path)}:{each.function.line}">'
        f"{escape(each.path)}:{each.function.line}</td>"
        f"{_number(value(each.function), most)}</tr>"
        for place, each in enumerate(ranked, start=1)
    )
    head = (
        '<th class="rank">#</th><th>Function</th><th>File</th>'
        f'<th class="num">{unit.capitalize()}</th>'
    )
    return _panel(title, "", _table(title, head, rows))


def _imports(imported: Sequence[Imported]) -> str:
    most = max((each.files for each in imported), default=0) or 1
    rows = (
        f'<tr><td class="rank">{place}</td><td><b class="mono">{escape(each.name)}</b></td>'
        f"{_number(each.files, most)}</tr>"
        for place, each in enumerate(imported, start=1)
    )
    head = '<th class="rank">#</th><th>Module</th><th class="num">Files</th>'
    title = "Most imported modules"
    return _panel(title, "by how many files", _table(title, head, rows))


def _unreadable(unreadable: Sequence[Unreadable]) -> str:
    if not unreadable:
        return ""
    rows = (
        f'<tr><td class="mono">{escape(each.path)}</td>'
        f'<td class="bad">{escape(each.error)}</td></tr>'
        for each in unreadable
    )
    title = f"Not valid Python: {len(unreadable)}"
    table = _table(title, "<th>File</th><th>What the parser says</th>", rows, kind="wide")
    return _panel(title, "counted as files and lines, not measured; most are test data", table)


def _number(value: int, most: int) -> str:
    return f'<td class="num" style="--share:{value / most:.4f}">{value:,}</td>'


def _table(caption: str, head: str, rows: Iterable[str], *, kind: str = "") -> str:
    return (
        f'<table class="{kind}"><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _panel(title: str, sub: str, body: str, legend: str = "") -> str:
    return (
        f'<section class="panel"><div class="head"><h2>{escape(title)}</h2>'
        f'<span class="sub">{escape(sub)}</span>{legend}</div>{body}</section>'
    )


def _footer(origin: Origin) -> str:
    return (
        f"<footer><p>Run <code>{escape(origin.run)}</code>, started {escape(origin.started)}. "
        "A line with code and a comment counts as code. A decision is a branch, a loop, an except "
        "clause, a case, a condition of a comprehension, or an <code>and</code> or <code>or</code>."
        "</p></footer>"
    )
