"""Cuts values and tracebacks into coloured pieces of text, each piece still to be escaped; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias, cast

from taskiq_flow.dashboard.words import many, size, visible
from taskiq_flow.operations.models import ErrorView, Preview

Piece: TypeAlias = tuple[str, str]
"""The class of a piece (empty: plain) and its text."""

TRACE_MOST = 40_000
_TEXT_MOST = 4_000
_FRAME = re.compile(r'^\s*File "(?P<file>.*)", line (?P<line>\d+), in (?P<name>.*)$')
_PACKAGES = re.compile(r"(site|dist)-packages|[\\/]lib[\\/]python\d|^<frozen|[\\/]taskiq_flow[\\/]")


def value_pieces(preview: Preview) -> list[Piece]:
    """A stored value as indented JSON, with what was left out said at the end."""
    if preview.type in ("large", "unreadable"):
        words = "too large to be shown here" if preview.type == "large" else "not readable"
        return [("f", f"{size(preview.size)}, {words}")]
    pieces = list(_pieces(preview.value, 0))
    if preview.is_cut:
        rest = "" if preview.length is None else f" of {many(preview.length, 'element')}"
        pieces.append(("f", f"\n… the beginning{rest}, {size(preview.size)}"))
    return pieces


def _pieces(value: Any, depth: int) -> Iterator[Piece]:
    pad, end = "  " * (depth + 1), "  " * depth
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, Any]", value)
        if not entries:
            yield "", "{}"
            return
        yield "", "{\n"
        for name, inner in entries.items():
            yield "k", f"{pad}{visible(_quoted(str(name)), 300)}"
            yield "", ": "
            yield from _pieces(inner, depth + 1)
            yield "", ",\n"
        yield "", f"{end}}}"
    elif isinstance(value, Sequence) and not isinstance(value, str):
        inside = cast("Sequence[Any]", value)
        if not any(isinstance(inner, (Mapping, list, tuple)) for inner in inside):
            yield "", "["
            for number, inner in enumerate(inside):
                if number:
                    yield "", ", "
                yield from _pieces(inner, depth + 1)
            yield "", "]"
            return
        yield "", "[\n"
        for inner in inside:
            yield "", pad
            yield from _pieces(inner, depth + 1)
            yield "", ",\n"
        yield "", f"{end}]"
    elif isinstance(value, str):
        yield "s", visible(_quoted(value), _TEXT_MOST)
    else:
        yield "", json.dumps(value, default=str)


def _quoted(text: str) -> str:
    return json.dumps(text[: _TEXT_MOST + 1], ensure_ascii=False)


def traceback_pieces(error: ErrorView) -> list[Piece]:
    """A traceback line by line: own frames whole, those of installed packages only counted."""
    lines = visible(error.traceback, TRACE_MOST).splitlines()
    pieces: list[Piece] = []
    for is_foreign, frames in groupby(_frames(lines), key=_is_foreign):
        many_frames = list(frames)
        if is_foreign:
            pieces.append(("f", f"{many(len(many_frames), 'frame')} of installed packages"))
            continue
        for frame in many_frames:
            found = _FRAME.match(frame[0])
            if found is None:
                pieces += [("e" if _is_last(line) else "", line) for line in frame]
                continue
            file = "/".join(re.split(r"[\\/]", found["file"])[-2:])
            pieces.append(("f", f"{file}:{found['line']} in {found['name']}"))
            pieces += [
                ("here", f"  \u203a {line.strip()}") for line in frame[1:] if set(line) - set(" ^~")
            ]
    if not pieces:
        return [("e", f"{visible(error.type, 200)}: {visible(error.message, TRACE_MOST)}")]
    return pieces


def _frames(lines: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The lines of each frame together; all others alone."""
    frame: list[str] = []
    for line in lines:
        if _FRAME.match(line):
            if frame:
                yield tuple(frame)
            frame = [line]
        elif frame and line.startswith("    "):
            frame.append(line)
        else:
            if frame:
                yield tuple(frame)
                frame = []
            yield (line,)
    if frame:
        yield tuple(frame)


def _is_foreign(frame: tuple[str, ...]) -> bool:
    found = _FRAME.match(frame[0])
    return found is not None and _PACKAGES.search(found["file"]) is not None


def _is_last(line: str) -> bool:
    return bool(line) and not line[0].isspace() and not line.startswith("Traceback (")
