"""A graph as text: one line per node, with rails on the left that lead data from node to node."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from taskiq_flow.visualization.model import Drawable, GraphView, status_word, view_of

MAX_RAILS = 32
"""Beyond this many open rails a picture explains nothing; the names on the right stay."""

MAX_NEEDS = 6
"""So many predecessors of a node are named; of the others, the number."""


def render_ascii(graph: Drawable, *, unicode: bool = True) -> str:
    """Draw a graph as text that begins with ``Pipeline DAG``.

    A rail goes down from each node to the last one that needs it. Without ``unicode`` the lines
    are made of ``|``, ``-`` and ``+``, and other letters are escaped.
    """
    view = view_of(graph)
    lines = [_headline(view), "", *_body(view)] if view.nodes else [_headline(view)]
    text = "\n".join(line.rstrip() for line in lines)
    if unicode:
        return text
    return text.translate(_PLAIN).encode("ascii", "backslashreplace").decode()


def printable(text: str) -> str:
    """Escape what would move the cursor of a terminal or break a line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _headline(view: GraphView) -> str:
    title = f"Pipeline DAG: {printable(view.title)}" if view.title else "Pipeline DAG"
    counts = (
        (len(view.nodes), "node"),
        (len(view.edges), "edge"),
        (len(view.levels()), "level"),
    )
    said = ", ".join(f"{number} {word}{'' if number == 1 else 's'}" for number, word in counts)
    return f"{title} · {said}"


def _body(view: GraphView) -> list[str]:
    ordering = view.ordering()
    needs: list[list[int]] = [[] for _ in view.nodes]
    users = [0] * len(view.nodes)
    for source, target in dict.fromkeys(view.pairs()):
        # An edge of a cycle has no direction in which a rail could lead; it is named only.
        needs[target].append(source)
        users[source] += ordering.level[source] < ordering.level[target]
    rails = _Rails(users)
    gutters: list[str] = []
    texts: list[tuple[str, str, str]] = []
    previous = -1
    for index in sorted(range(len(view.nodes)), key=lambda i: (ordering.level[i], i)):
        node, level = view.nodes[index], ordering.level[index]
        heading = f"Level {level}" if level != previous else ""
        if heading and gutters:
            gutters.append(f"{'':{_HEADING}}{rails.pass_by()}")
            texts.append(("", "", ""))
        sources = [s for s in needs[index] if ordering.level[s] < level]
        mark = _MARKS.get(status_word(node) or "", "●")
        gutters.append(f"{heading:{_HEADING}}{rails.pass_through(index, sources, mark)}")
        kind = "" if node.kind == "task" else f" [{printable(node.kind)}]"
        needed = [printable(view.nodes[s].label) for s in needs[index]]
        texts.append((printable(node.label) + kind, printable(node.detail), _needs(needed)))
        previous = level
    return _in_columns(gutters, texts, with_rails=not rails.are_too_many)


def _needs(names: Sequence[str]) -> str:
    if not names:
        return ""
    further = len(names) - MAX_NEEDS
    tail = f" and {further} more" if further > 0 else ""
    return f"← {', '.join(names[:MAX_NEEDS])}{tail}"


def _in_columns(
    gutters: list[str], texts: list[tuple[str, str, str]], *, with_rails: bool
) -> list[str]:
    if not with_rails:
        gutters = [gutter[:_HEADING] for gutter in gutters]
    widths = [
        max(map(len, gutters)),
        max(_width(label) for label, _, _ in texts),
        max(_width(detail) for _, detail, _ in texts),
    ]
    lines: list[str] = []
    for gutter, row in zip(gutters, texts, strict=True):
        label, detail, needed = row
        cells = [_pad(c, w) for c, w in zip((gutter, label, detail), widths, strict=True)]
        lines.append("   ".join(cell for cell in (*cells, needed) if cell))
    return lines


class _Rails:
    """The columns on the left. A column belongs to a node until its last user has been drawn."""

    def __init__(self, users: list[int]) -> None:
        self._users = users
        self._columns: list[int | None] = []
        self.are_too_many = False

    def pass_by(self) -> str:
        """Return a line on which nothing happens."""
        if self.are_too_many:
            return ""
        return " ".join(" " if node is None else "│" for node in self._columns)

    def pass_through(self, node: int, sources: Sequence[int], mark: str) -> str:
        """Return the line of a node, which ends the rails it is the last to use."""
        if self.are_too_many:
            return ""
        used = sorted(self._columns.index(source) for source in sources)
        ending: list[int] = []
        for source in sources:
            self._users[source] -= 1
            if not self._users[source]:
                ending.append(self._columns.index(source))
        own = min(ending) if ending else self._free_column(after=max(used, default=-1))
        first, last = min((own, *used)), max((own, *used))
        line = ""
        for column, holder in enumerate(self._columns):
            if column == own:
                cell = mark
            elif column in used:
                cell = _joint(column, ends=column in ending, span=(first, last))
            else:
                cell = " " if holder is None else "│"
            if cell == " " and first < column < last:
                cell = "─"
            line += cell + ("─" if first <= column < last else " ")
        for column in ending:
            self._columns[column] = None
        self._columns[own] = node if self._users[node] else None
        while self._columns and self._columns[-1] is None:
            self._columns.pop()
        return line

    def _free_column(self, after: int) -> int:
        for column in range(after + 1, len(self._columns)):
            if self._columns[column] is None:
                return column
        self._columns.append(None)
        self.are_too_many = self.are_too_many or len(self._columns) > MAX_RAILS
        return len(self._columns) - 1


def _joint(column: int, *, ends: bool, span: tuple[int, int]) -> str:
    first, last = span
    if column == first:
        return "╰" if ends else "├"
    if column == last:
        return "╯" if ends else "┤"
    return "┴" if ends else "┼"


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


_HEADING = 11
_MARKS = {
    "pending": "○",
    "running": "◐",
    "completed": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "skipped": "»",
    "retrying": "↻",
    "event": "◇",
}
_PLAIN = str.maketrans(
    {"│": "|", "─": "-", "├": "+", "┤": "+", "┼": "+", "┴": "+", "╰": "+", "╯": "+"}
    | {"●": "*", "○": "o", "◐": ">", "✓": "v", "✗": "x", "⊘": "/", "»": "~", "↻": "r", "◇": "?"}
    | {"→": "->", "←": "<-", "·": "-"}
)
