"""Options and arguments that several commands share, and how their words are read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from taskiq_flow.exceptions import BadInputError
from taskiq_flow.model.numbers import LONGEST_SECONDS

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run: its id, the last 8 characters of that, or its name.",
        show_default=False,
    ),
]
BrokerOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:BROKER",
        help="Send messages by this broker. Without it the workers find what is due by "
        "themselves, within some seconds.",
        show_default=False,
    ),
]
LimitOption = Annotated[
    int, typer.Option("--limit", "-n", help="At most so many.", min=1, max=1000)
]
CursorOption = Annotated[
    str | None,
    typer.Option(help="Go on from here; every page names it.", show_default=False),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def read_span(option: str, text: str) -> timedelta:
    """A length of time: ``90s``, ``15m``, ``2h``, ``7d``, ``4w``.

    Raises:
        BadInputError: It is none.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise BadInputError(option, text, "is no length of time; write 90s, 15m, 2h, 7d or 4w")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > LONGEST_SECONDS:
        raise BadInputError(option, text, "is longer than a hundred years")
    return timedelta(seconds=seconds)


def read_moment(option: str, text: str | None) -> datetime | None:
    """A moment: so long ago (``2h``), or a date with or without a time of day.

    A time without a zone is one of this machine.

    Raises:
        BadInputError: It is none.
    """
    if text is None:
        return None
    if _SPAN.fullmatch(text.strip()) is not None:
        return datetime.now(UTC) - read_span(option, text)
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        rule = "is no moment; write 2h (ago), 2026-11-21 or 2026-11-21T12:00"
        raise BadInputError(option, text, rule) from error
