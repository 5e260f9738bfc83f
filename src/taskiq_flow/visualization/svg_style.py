"""The style sheet and the status icons of drawn graphs."""

from __future__ import annotations

import re
from typing import Final

from taskiq_flow.visualization.model import STATUS_WORDS

LIGHT: Final = {
    "surface": "#ffffff",
    "line-strong": "#c9ced6",
    "text": "#15171c",
    "text-2": "#474e5c",
    "text-3": "#616978",
    "accent": "#5046d6",
    "pending": "#656d7b",
    "running": "#0a66c9",
    "completed": "#137a48",
    "failed": "#bb1e29",
    "cancelled": "#55606f",
    "skipped": "#6a6690",
    "retrying": "#96570a",
    "event": "#9030a8",
    "shadow": "#10182812",
}
_DARK: Final = {
    "surface": "#14161a",
    "line-strong": "#3b424d",
    "text": "#eef0f3",
    "text-2": "#b4bbc7",
    "text-3": "#929baa",
    "accent": "#a49dff",
    "pending": "#98a1b0",
    "running": "#5fb0ff",
    "completed": "#45c486",
    "failed": "#ff7f7c",
    "cancelled": "#a9b3c1",
    "skipped": "#a39fc9",
    "retrying": "#f1b24d",
    "event": "#d68ee8",
    "shadow": "#0008",
}

# Every selector begins with the picture's own class: in a notebook, a style sheet inside an SVG
# is one of the whole page.
_RULES: Final = """
.edge { fill: none; stroke: var(--line-strong); stroke-width: 1.5 }
.edge.done { stroke: color-mix(in srgb, var(--completed) 62%, var(--surface)) }
.edge.flow { stroke: var(--running); stroke-dasharray: 5 4;
  animation: taskiq-flow 0.9s linear infinite }
.edge.idle { stroke-dasharray: 2 4; stroke-linecap: round }
.edge.cut { stroke: var(--failed); stroke-dasharray: 5 4; opacity: 0.75 }
.arrow { fill: var(--line-strong) }
.arrow.done { fill: color-mix(in srgb, var(--completed) 62%, var(--surface)) }
.arrow.flow { fill: var(--running) }
.arrow.cut { fill: var(--failed); opacity: 0.75 }
.box { fill: var(--surface); stroke: var(--line-strong);
  filter: drop-shadow(0 1px 1.5px var(--shadow)) }
.is-running .box, .is-retrying .box, .is-event .box {
  stroke: color-mix(in srgb, var(--st) 60%, var(--surface)) }
.is-failed .box { stroke: var(--failed);
  fill: color-mix(in srgb, var(--failed) 6%, var(--surface)) }
.is-skipped .box, .is-pending .box { stroke-dasharray: 4 3; filter: none }
a.node:focus-visible .box { stroke: var(--accent); stroke-width: 2.5 }
.node-name { font: 600 12px var(--mono); fill: var(--text) }
.is-skipped .node-name, .is-pending .node-name { fill: var(--text-2) }
.node-line { font: 400 11px var(--font); fill: var(--text-3) }
.node-line.hot { fill: var(--st); font-weight: 550 }
.node-badge { font: 600 10px var(--font); fill: var(--text-2) }
.st-icon { color: var(--st) }
"""
_FONTS: Final = {
    "mono": 'ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace',
    "font": 'system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif',
}


def _variables(colours: dict[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in colours.items())


def _scoped(rules: str) -> str:
    flat = " ".join(rules.split())
    scoped: list[str] = []
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", flat):
        inside = ", ".join(f".taskiq-flow {selector.strip()}" for selector in selectors.split(","))
        scoped.append(f"{inside} {{{body}}}")
    return "\n".join(scoped)


STYLE: Final = "\n".join(
    (
        f".taskiq-flow{{color-scheme:light dark;{_variables(LIGHT | _FONTS)}}}",
        f"@media(prefers-color-scheme:dark){{.taskiq-flow{{{_variables(_DARK)}}}}}",
        *(f".taskiq-flow .is-{status}{{--st:var(--{status})}}" for status in STATUS_WORDS),
        _scoped(_RULES),
        "@keyframes taskiq-flow{to{stroke-dashoffset:-9}}",
        "@media(prefers-reduced-motion:reduce){.taskiq-flow .edge.flow{animation:none}}",
    )
)
"""Light unless the reader prefers dark."""

_STROKE: Final = 'fill="none" stroke="currentColor" stroke-linecap="round" stroke-linejoin="round"'
_CUT: Final = (
    'fill="none" style="stroke:var(--surface)" stroke-width="1.7" stroke-linecap="round" '
    'stroke-linejoin="round"'
)

ICONS: Final = {
    "pending": f'<circle cx="8" cy="8" r="5.8" {_STROKE} stroke-width="1.6" '
    'stroke-dasharray="2.2 2.35"/>',
    "running": f'<circle cx="8" cy="8" r="5.6" {_STROKE} stroke-width="2" opacity=".28"/>'
    f'<path d="M8 2.4A5.6 5.6 0 0 1 13.6 8" {_STROKE} stroke-width="2"/>'
    '<circle cx="8" cy="8" r="2" fill="currentColor"/>',
    "completed": '<circle cx="8" cy="8" r="6.7" fill="currentColor"/>'
    f'<path d="m5 8.2 2.1 2.1L11.1 6" {_CUT}/>',
    "failed": '<path d="M5.2 1.3h5.6l3.9 3.9v5.6l-3.9 3.9H5.2l-3.9-3.9V5.2z" fill="currentColor"/>'
    f'<path d="m5.6 5.6 4.8 4.8M10.4 5.6l-4.8 4.8" {_CUT}/>',
    "cancelled": f'<rect x="2" y="2" width="12" height="12" rx="3" {_STROKE} stroke-width="1.7"/>'
    f'<path d="M5 8h6" {_STROKE} stroke-width="1.9"/>',
    "skipped": f'<path d="m3 4 4 4-4 4M8.5 4l4 4-4 4" {_STROKE} stroke-width="1.8"/>',
    "retrying": f'<path d="M13.2 8a5.2 5.2 0 1 1-1.7-3.85" {_STROKE} stroke-width="1.9"/>'
    '<path d="M13.9 1.6v4.1H9.8z" fill="currentColor"/>',
    "event": f'<path d="M8 1.4 14.6 8 8 14.6 1.4 8z" {_STROKE} stroke-width="1.7"/>'
    f'<path d="M8 5v3.4M8 10.8v.1" {_STROKE} stroke-width="1.8"/>',
}
"""One shape for each status, so that it says the same without its colour."""
