"""Reads the inputs of a run from arguments, a file or standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from taskiq_flow.exceptions import BadInputError


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run is started with: values in order, and values by name."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])


def read_inputs(
    named: Sequence[str],
    positional: Sequence[str],
    source: str | None,
    *,
    option: str = "--input",
) -> Inputs:
    """Put together ``--input``, ``--arg`` and ``--input-json``; single inputs win over the file.

    Raises:
        BadInputError: One of them is no input.
    """
    args = [as_value(text) for text in positional]
    kwargs: dict[str, Any] = {}
    if source is not None:
        whole = _read_source(source)
        if isinstance(whole, dict):
            kwargs.update(cast("dict[str, Any]", whole))
        else:
            args.append(whole)
    for text in named:
        name, is_pair, value = text.partition("=")
        if not is_pair or not name:
            raise BadInputError(option, text, "is not NAME=VALUE")
        kwargs[name] = as_value(value)
    return Inputs(tuple(args), kwargs)


def as_value(text: str) -> Any:
    """A value as it was typed: JSON where it is some, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_json(option: str, text: str) -> Any:
    """Exactly JSON.

    Raises:
        BadInputError: It is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInputError(option, text, f"is not JSON: {error}") from error


def _read_source(source: str) -> Any:
    if source.lstrip()[:1] in ("{", "["):
        return read_json("--input-json", source)
    if source == "-":
        return read_json("--input-json -", sys.stdin.read())
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError("--input-json", source, f"cannot be read: {error}") from error
    return read_json(f"--input-json {source}", text)
