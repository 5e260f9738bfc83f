"""Tasks of a module whose annotations are all text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from somewhere import OnlyForTheTypeChecker, PipelineContext


def resolvable(a: list[int]) -> str: ...


def half_resolvable(
    known: int,
    unknown: OnlyForTheTypeChecker,
    broken: "not a type [",  # noqa: F722
    context: PipelineContext,
) -> bytes: ...
