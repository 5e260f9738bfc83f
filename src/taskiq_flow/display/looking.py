"""Looks at a run in its store, again and again, and reads no more than a picture needs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from taskiq_flow.compile.builtin import StepOption
from taskiq_flow.display.picture import RunPicture, picture_of, with_children
from taskiq_flow.engine.children import child_tag
from taskiq_flow.engine.results import RunResults
from taskiq_flow.engine.status import pipeline_status
from taskiq_flow.exceptions import RunNotFoundError
from taskiq_flow.model.records import RunFilter, RunSnapshot, RunStatus
from taskiq_flow.plan import Plan
from taskiq_flow.stores.base import RunStore

ASK_SECONDS = 3.0
"""How often it is asked whether there is a reason that a run does not go on."""

SHOWN_CHILDREN, SHOWN_DEPTH, READ_CHILDREN = 4, 3, 100
"""Below a step stand so many of its child runs, so deep, of so many that are read."""

Why = Callable[[RunSnapshot], Awaitable[str | None]]


@dataclass(slots=True)
class RunEye:
    """Makes pictures of one run; ``why`` says why nobody goes on with one that has not ended."""

    store: RunStore
    run_id: str
    why: Why | None = None
    _plans: dict[str, Plan] = field(default_factory=dict[str, Plan])
    _note: str | None = None
    _asked: float = 0.0

    async def look(self) -> RunPicture:
        """The run as it stands.

        Raises:
            RunNotFoundError: It is gone.
            StoreError: The store does not answer.
        """
        run = await self.store.get(self.run_id)
        if run is None:
            raise RunNotFoundError(self.run_id)
        return await self._picture(run, SHOWN_DEPTH, note=await self._why_stuck(run))

    async def _picture(self, run: RunSnapshot, depth: int, *, note: str | None = "") -> RunPicture:
        plan = await self._plan(run.run_id)
        picture = picture_of(pipeline_status(run), plan, note=note)
        if depth == 0 or not any(_starts_runs(plan, index) for index in range(len(plan.steps))):
            return picture
        page = await self.store.list_runs(RunFilter(tag=child_tag(run.run_id)), limit=READ_CHILDREN)
        by_step: dict[str, list[RunSnapshot]] = {}
        for child in page.runs:
            if child.parent is not None and child.parent.run_id == run.run_id:
                by_step.setdefault(plan.steps[child.parent.step].name, []).append(child)
        found: dict[str, tuple[tuple[RunPicture, ...], int]] = {}
        for name, children in by_step.items():
            chosen = sorted(children, key=_interest)[:SHOWN_CHILDREN]
            whole = [await self.store.get(child.run_id) for child in chosen]
            pictures = [await self._picture(child, depth - 1) for child in whole if child]
            found[name] = (tuple(pictures), len(children) - len(pictures))
        return with_children(picture, found)

    async def _plan(self, run_id: str) -> Plan:
        if run_id not in self._plans:
            self._plans[run_id] = await RunResults(self.store).plan(run_id)
        return self._plans[run_id]

    async def _why_stuck(self, run: RunSnapshot) -> str:
        if run.status.is_final or self.why is None:
            return ""
        now = time.monotonic()
        if not self._asked:
            self._asked = now
        elif now - self._asked > ASK_SECONDS:
            self._asked = now
            self._note = await self.why(run)
        return self._note or ""


def _starts_runs(plan: Plan, index: int) -> bool:
    options = plan.steps[index].options
    return StepOption.CHILD in options or StepOption.MAY_CONTINUE in options


def _interest(run: RunSnapshot) -> tuple[int, float]:
    """What goes on first, then what failed, then the newest."""
    rank = {RunStatus.RUNNING: 0, RunStatus.PENDING: 1, RunStatus.FAILED: 2}
    return rank.get(run.status, 3), -run.created_at
