"""Handles on runs: what ``kiq`` returns, and what another process makes from an id."""

from __future__ import annotations

import asyncio
import contextlib
import math
import weakref
from collections.abc import AsyncIterator, Mapping
from typing import Any, Generic, TypeVar, cast

from taskiq import AsyncBroker, AsyncResultBackend, AsyncTaskiqTask, TaskiqResult

from taskiq_flow import display
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.forks import Changes
from taskiq_flow.engine.results import RunOutcome
from taskiq_flow.engine.run_progress import run_progress
from taskiq_flow.engine.step_log import LogLine
from taskiq_flow.errors import ExecutionReport
from taskiq_flow.events import RunEvent
from taskiq_flow.exceptions import (
    InvalidTaskOptionError,
    PipelineError,
    PipelineTimeoutError,
    StepFailedError,
)
from taskiq_flow.model.numbers import LONGEST_SECONDS
from taskiq_flow.plan import Plan
from taskiq_flow.progress import RunProgress
from taskiq_flow.tracking.models import PipelineStatus

T = TypeVar("T")


class PipelineTask(AsyncTaskiqTask[T], Generic[T]):
    """A handle on a run; costs nothing until it is asked something.

    All methods ask the run store, so they work from any process, and do not depend on the
    broker's result backend.
    """

    def __init__(
        self,
        run_id: str,
        client: RunClient,
        *,
        plan: Plan | None = None,
        return_annotation: Any = None,
    ) -> None:
        backend = cast("AsyncResultBackend[T]", client.home.broker.result_backend)
        super().__init__(task_id=run_id, result_backend=backend)
        self._client = client
        self._plan = plan
        self._annotation = return_annotation
        self._run_id: str | None = run_id if plan is not None else None
        self._finished = False
        self._outcome: RunOutcome | None = None
        self._partial: dict[str, Any] = {}
        self._failed_step: str | None = None
        self._watch: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task_id}>"

    @property
    def pipeline_id(self) -> str:
        """The id or name that this handle was made with; the same as ``task_id``."""
        return self.task_id

    @property
    def run_id(self) -> str:
        """The id of the run; for a handle made from a name, known after the first question."""
        return self._run_id or self.task_id

    # -- waiting

    async def wait_result(  # type: ignore[override]
        self,
        check_interval: float = 0.2,
        timeout: float = -1.0,  # noqa: ASYNC109 - Taskiq's parameter, with Taskiq's meaning
        with_logs: bool = False,
        *,
        raise_on_error: bool | None = None,
        progress: bool = False,
    ) -> TaskiqResult[T]:
        """Wait for the end of the run and return its result.

        Woken by the store, so ``check_interval`` has no effect. No or a negative timeout waits
        for ever. With ``raise_on_error=True`` a failed step's own exception is raised (where its
        type may be rebuilt), with False a failure is returned as ``result.is_err``.

        ``progress=True`` shows the steps meanwhile: live on a terminal's standard error or in a
        notebook, as a line now and then elsewhere. It changes nothing about the wait.

        Raises:
            MissingExtraError: ``progress`` was wanted, and rich is not installed.
            PipelineTimeoutError: The run was still going; it goes on.
            PipelineError: The run failed or was cancelled; ``__cause__`` is the step's exception.
            RunNotFoundError: There is no such run (any more).
        """
        del check_interval, with_logs
        if not isinstance(timeout, (int, float)) or math.isnan(timeout):  # pyright: ignore[reportUnnecessaryIsInstance]
            rule = "must be a number of seconds, or negative to wait for ever"
            raise InvalidTaskOptionError("timeout", timeout, rule)
        limit = timeout if 0 < timeout < LONGEST_SECONDS else None
        run_id = await self._resolve()
        if progress:
            async with display.shown(self._client, run_id):
                ended = await self._client.wait(run_id, timeout_seconds=limit)
        else:
            ended = await self._client.wait(run_id, timeout_seconds=limit)
        if ended is None:
            raise PipelineTimeoutError(
                f"Pipeline {self.task_id} was still going after {timeout:g} s; it goes on.",
                timeout=timeout,
                run_id=run_id,
            )
        await self._client.settle(run_id)
        outcome = await self._read_outcome()
        result = outcome.as_result()
        if not outcome.failed or raise_on_error is False:
            return result
        error = cast("PipelineError", result.error)
        error.result = result
        cause = outcome.cause
        if raise_on_error and cause is not None and not isinstance(cause, StepFailedError):
            raise cause
        raise error

    async def get_result(self, with_logs: bool = False) -> TaskiqResult[T]:
        """The result of a run that has ended.

        Raises:
            PipelineError: It has not ended.
        """
        del with_logs
        return (await self._read_outcome()).as_result()

    async def is_ready(self) -> bool:
        """Whether the run has ended."""
        run_id = await self._resolve()
        self._finished = self._finished or run_id in await self._client.store.ended_among([run_id])
        return self._finished

    async def _resolve(self) -> str:
        if self._run_id is None:
            self._run_id = (await self._client.find(self.task_id)).run_id
        await self._client.open()
        return self._run_id

    async def _read_outcome(self) -> RunOutcome:
        if self._outcome is None:
            run_id = await self._resolve()
            outcome = await self._client.outcome(
                run_id, plan=self._plan, annotation=self._annotation
            )
            if outcome is None:
                raise PipelineError(f"Pipeline {self.task_id} has not ended.", run_id=run_id)
            self._outcome = outcome
            self._finished = True
            self._failed_step = outcome.failed_step
            self._partial = dict(outcome.partial)
        return self._outcome

    # -- looking

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended; becomes true by itself, starting with the first read."""
        if not self._finished and self._watch is None:
            with contextlib.suppress(RuntimeError):  # without a running loop nobody can watch
                self._watch = asyncio.get_running_loop().create_task(
                    PipelineTask._follow(weakref.ref(self), self._client, self.task_id)
                )
        return self._finished

    @staticmethod
    async def _follow(
        handle: weakref.ref[PipelineTask[Any]], client: RunClient, task_id: str
    ) -> None:
        """Wait for the end on behalf of a handle, without keeping it alive."""
        await client.wait((await client.find(task_id)).run_id)
        task = handle()
        if task is not None:
            await task._read_outcome()

    @property
    def is_failed(self) -> bool:
        """Whether the run has ended without its result; becomes true by itself."""
        return self.is_finished and self._outcome is not None and self._outcome.failed

    @property
    def failed_step(self) -> str | None:
        """The step that made the run fail, once that is known here."""
        return self._failed_step

    @property
    def partial_results(self) -> dict[str, Any]:
        """What the run had when it failed, by output or step name, once that is known here."""
        return dict(self._partial)

    async def get_partial_results(self) -> dict[str, Any]:
        """What the run has by now, by output or step name."""
        run_id = await self._resolve()
        plan = self._plan or await self._client.results.plan(run_id)
        self._partial = await self._client.results.partial(run_id, plan)
        return dict(self._partial)

    async def get_status(self) -> PipelineStatus:
        """The record of the run as it stands; ``str()`` of it is its status word."""
        status = await self._client.status(await self._resolve())
        if status.is_finished() and self._outcome is None:
            await self._read_outcome()
        return status

    async def events(self, after: int = 0) -> AsyncIterator[RunEvent]:
        """The events of the run in order, those to come too, until it has ended.

        None is missing and none comes twice. ``after`` is the ``seq`` of the last one known: a
        reader that was interrupted goes on there, in any process.
        """
        async for event in self._client.events(await self._resolve(), after=after):
            yield event

    async def get_report(self) -> ExecutionReport:
        """What became of each step: done, failed with which error after how many tries, skipped."""
        return await self._client.report(await self._resolve())

    async def get_progress(self) -> RunProgress:
        """How far the run is as a whole; its ``meta`` is what its steps have said.

        By step name; each is a dict of ``current``, ``total`` and ``message``.
        """
        return run_progress(await self._client.status(await self._resolve(), values=False))

    async def get_log(self) -> list[LogLine]:
        """The lines that steps have written with ``context.logger``, the newest 10,000."""
        run_id, position, lines = await self._resolve(), 0, list[LogLine]()
        while True:
            page, after = await self._client.log(run_id, after=position)
            lines += page
            if not page or after == position:
                return lines
            position = after

    # -- steering

    async def cancel(self, reason: str | None = None) -> bool:
        """End the run; running code hears of it within 2 s. False when it had ended."""
        return await self._client.cancel(await self._resolve(), reason)

    async def retry(self) -> PipelineTask[T]:
        """Run again what did not complete, in a new run that takes over all that is done.

        For a run that failed, was cancelled, or went on past a failed step. Called twice, also at
        once or from other processes, it returns the same new run; to try that one again once it
        has failed too, call its own ``retry()``. A map keeps the items that were recorded; those
        that failed, also where the run went on past them, run again.

        Raises:
            RunNotEndedError: The run still goes on.
            NothingToRunError: Every step completed.
            DuplicatePipelineError: Another run of its name is going.
        """
        return self._made(await self._client.retry(await self._resolve()))

    async def fork(
        self,
        from_step: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        *,
        pipeline_id: str | None = None,
    ) -> PipelineTask[T]:
        """Make a new run of this ended one that takes over what is done up to a step.

        ``from_step`` and all that need it run again. ``inputs`` replaces run inputs by name (items
        that a map was started with: by its step's name), ``outputs`` replaces what steps gave, by
        output or step name; what takes a changed value runs again. What did not complete runs
        too. The plan is the one that was stored with this run, whatever was deployed since.

        Raises:
            RunNotEndedError: The run still goes on.
            UnknownStepError: It has no step of this name.
            UnknownInputError: It has no input of this name.
            NothingToRunError: Nothing was changed, and every step completed.
            UnserializableValueError: A changed value cannot be stored.
        """
        changes = Changes(from_step, inputs or {}, outputs or {})
        return self._made(await self._client.fork(await self._resolve(), changes, key=pipeline_id))

    def _made(self, run_id: str) -> PipelineTask[T]:
        return PipelineTask(
            run_id, self._client, plan=self._plan, return_annotation=self._annotation
        )

    async def send_event(self, name: str, payload: Any = None) -> None:
        """Deliver an event to a step that waits for it, now or later.

        Raises:
            RunEndedError: The run has ended.
        """
        await self._client.send_event(await self._resolve(), name, payload)


class Task(PipelineTask[Any]):
    """A handle made from an id (or the name given to a run) in any process."""

    def __init__(self, task_id: str, broker: AsyncBroker) -> None:
        super().__init__(task_id, RunClient.of(broker))
