"""Lists dead letters, and retries many of them at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from taskiq_flow.engine.dead_letters import DeadLetter, list_letters
from taskiq_flow.operations.models import ErrorView, LetterPage, LetterQuery, LetterView

if TYPE_CHECKING:
    from taskiq_flow.operations.scope import Scope

PAGE = 100
LOOKED_MOST = 200
"""Failed runs that one page looks into: which task failed no index says."""


async def letter_page(
    scope: Scope, query: LetterQuery, *, limit: int, cursor: str | None
) -> LetterPage:
    """One page of dead letters, newest first; it may hold a few more or fewer than asked for."""
    looked_most = max(limit, LOOKED_MOST)
    found = await list_letters(
        scope.store, query, limit=limit, cursor=cursor, looked_most=looked_most
    )
    return LetterPage(tuple(_view(scope, letter) for letter in found), found.cursor)


async def letters_of(scope: Scope, query: LetterQuery) -> AsyncIterator[LetterView]:
    """All dead letters that a query finds, read page by page."""
    cursor: str | None = None
    while True:
        page = await letter_page(scope, query, limit=PAGE, cursor=cursor)
        for letter in page.letters:
            yield letter
        cursor = page.cursor
        if cursor is None:
            return


def _view(scope: Scope, letter: DeadLetter) -> LetterView:
    message = letter.error.removeprefix(f"{letter.error_type}: ")
    shown = scope.previewer.text("error.message", message)
    return LetterView(
        run_id=letter.task_id,
        pipeline_id=letter.pipeline_id,
        name=letter.name,
        kind=letter.kind,
        step=letter.step,
        task=letter.task_name,
        error=ErrorView(letter.error_type.rpartition(".")[2], shown, step=letter.step),
        created_at=letter.created_at,
        failed_at=letter.failed_at,
        tags=letter.tags,
        is_poison=letter.is_poison,
        retried_as=letter.retried_as,
    )
