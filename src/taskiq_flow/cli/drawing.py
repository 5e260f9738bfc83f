"""``taskiq-flow dag``: the graph of a pipeline, or of a run with the state of its steps."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from taskiq_flow.cli.common import Settings, command
from taskiq_flow.cli.targets import load_pipeline
from taskiq_flow.exceptions import BadInputError
from taskiq_flow.visualization import GraphView, get_renderer_registry, render_ascii


class Format(StrEnum):
    """The kinds of pictures that can be written."""

    ASCII = "ascii"
    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"
    JSON = "json"


@command
async def dag(
    settings: Settings,
    what: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:PIPELINE|RUN",
            help="module:pipeline or file.py:pipeline; or a run: its id, the last 8 characters of "
            "that, or its name.",
            show_default=False,
        ),
    ],
    kind: Annotated[Format, typer.Option("--format", "-f", help="What to write.")] = Format.ASCII,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file.", show_default=False),
    ] = None,
) -> None:
    """Draw a pipeline before it runs, or a run with the state of its steps."""
    view = await _view(settings, what)
    if settings.as_json:
        kind = Format.JSON
    drawn: Any = get_renderer_registry().render(kind, view)
    if kind is Format.JSON:
        settings.output.json(drawn)
        return
    if file is not None:
        try:
            file.write_text(drawn, encoding="utf-8")
        except OSError as error:
            raise BadInputError("--output", str(file), f"cannot be written: {error}") from error
        return
    if kind is Format.ASCII and settings.output.out.options.ascii_only:
        drawn = render_ascii(view, unicode=False)
    settings.output.text(drawn)


async def _view(settings: Settings, what: str) -> GraphView:
    if ":" in what or what.endswith(".py"):
        return load_pipeline(what).to_view()
    async with settings.operations() as operations:
        return (await operations.graph(what)).to_view()
