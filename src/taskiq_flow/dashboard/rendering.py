"""Renders templates: always escaped, with the words of the dashboard as filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from taskiq_flow.dashboard import words
from taskiq_flow.dashboard.pictures.text import traceback_pieces, value_pieces

HERE = Path(__file__).parent
STATIC = HERE / "static"


def make_environment() -> Environment:
    """The templates with their filters; a name that is not there is an error, not nothing."""
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = cast("dict[str, Any]", found.filters)  # pyright: ignore[reportUnknownMemberType]
    filters.update(
        absolute=words.absolute,
        age=words.age,
        ago=words.ago,
        amount=words.amount,
        clock=words.clock,
        coded=coded,
        few=few,
        frames=traceback_pieces,
        key=words.key,
        lasted=words.lasted,
        line=words.one_line,
        many=words.many,
        run_word=words.run_word,
        size=words.size,
        span=words.span,
        step_word=words.step_word,
        tokens=value_pieces,
        visible=words.visible,
    )
    return found


def coded(text: str) -> Markup:
    """A sentence of ours with what stands between backquotes as code."""
    pieces = text.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if place % 2 else escape(piece)
        for place, piece in enumerate(pieces)
    )


def few(number: int) -> str:
    """A number for a badge: ``37``, ``4.1k``, ``120k``."""
    if number < 1_000:
        return str(number)
    return f"{number / 1000:.1f}k" if number < 10_000 else f"{number // 1000}k"


def attributes(**values: str | None) -> Markup:
    """HTML attributes, escaped; underscores in their names are hyphens."""
    return Markup(" ").join(
        Markup('{}="{}"').format(name.replace("_", "-"), value)
        for name, value in values.items()
        if value is not None
    )


def rendered(environment: Environment, template: str, context: dict[str, Any]) -> Markup:
    """A template as markup that another one may hold."""
    return Markup(environment.get_template(template).render(context))  # noqa: S704 - autoescaped
