"""What operators act on and what came of it: dead letters, results, the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskiq_flow.operations.models.runs import SHORT, ErrorView


@dataclass(frozen=True, slots=True)
class LetterView:
    """A run that failed for good; ``step`` is None where the time of the whole run was up."""

    run_id: str
    pipeline_id: str
    name: str
    kind: str
    step: str | None
    task: str | None
    error: ErrorView
    created_at: datetime
    failed_at: datetime
    tags: tuple[str, ...]
    is_poison: bool
    retried_as: str | None

    @property
    def short_id(self) -> str:
        return self.run_id[-SHORT:]


@dataclass(frozen=True, slots=True)
class LetterPage:
    """One page of dead letters, newest first; ``cursor`` asks for the next one."""

    letters: tuple[LetterView, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that somebody did, or tried: ``ok`` is False where it was refused or failed."""

    at: datetime
    actor: str
    action: str
    target: str
    ok: bool
    details: Mapping[str, Any]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AuditPage:
    """One page of the audit, newest first; ``cursor`` asks for the next one."""

    entries: tuple[AuditEntry, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What an action came to. ``changed`` is False where there was nothing to do any more.

    ``run_id`` is the run that it made, or was about. ``note`` says what the actor should know,
    for example that only the workers can go on from here.
    """

    changed: bool
    run_id: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What replaying dead letters came to: new run ids by old ones, and why others were left.

    ``is_all`` is False when there may be more than one call replays.
    """

    made: Mapping[str, str]
    left: Mapping[str, str]
    is_all: bool = True
