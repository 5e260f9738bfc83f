"""Results that outlive their runs: found by key, computed by one worker while the others wait."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from taskiq.exceptions import NoResultError

from taskiq_flow.engine.asking import ask
from taskiq_flow.engine.ids import derived_run_id, new_token
from taskiq_flow.engine.lease import Lease, LeaseKeeper, now_monotonic
from taskiq_flow.engine.outcome import Try
from taskiq_flow.exceptions import DuplicatePipelineError, RunNotFoundError, StoreError
from taskiq_flow.model.records import (
    NONE_VALUE,
    Address,
    Done,
    Failed,
    Grant,
    NewRun,
    RunStatus,
    StepRecord,
)
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("taskiq_flow.engine")

QUEUE = "taskiq_flow:cached"
"""No worker takes from it: an entry is worked on by whoever asked for it first."""

TRIES = 4
"""A store that does not answer so often is away: the step is given back."""

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.05, 1.0
"""How soon a waiting step asks again; the pause grows with the time that it has waited."""

CLEAN_SECONDS, CLEANED = 60.0, 100
"""How often, and how many at once, results are removed that are kept no longer."""


class Question(NamedTuple):
    """A step that asks for its result; ``now`` is the store's clock, ``waited`` in seconds."""

    key: str
    task: str
    ttl: float | None
    now: float
    waited: float


class Hit(NamedTuple):
    """The result is there, encoded."""

    value: bytes


class Claim(NamedTuple):
    """Nobody has it: who asked computes it, and says how that went."""

    lease: Lease


class Wait(NamedTuple):
    """Another step computes it now."""

    delay_seconds: float


Answer: TypeAlias = Hit | Claim | Wait


class NotYet(NoResultError):  # noqa: N818 - no error: the step is asked again
    """A step waits for a result that another one computes; that counts as no attempt."""

    def __init__(self, delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        super().__init__()


async def through_cache(
    cache: ResultCache,
    question: Question,
    call: Callable[[], Awaitable[Try]],
    *,
    filters: bool,
) -> Try:
    """Take a result from the cache, or make the call and keep what it gives.

    An error is not kept, nor the outcome of a call that asked to be made again.
    """
    answer = await cache.ask(question)
    match answer:
        case Hit(value=value):
            return Try(truthy=value == _TRUE) if filters else Try(value)
        case Wait(delay_seconds=seconds):
            return Try(error=NotYet(seconds))
        case Claim():
            pass
    try:
        ended = await call()
    except BaseException:
        cache.give_back(answer)
        raise
    if ended.error is None:
        kept = (_TRUE if ended.truthy else _FALSE) if filters else ended.value
        await cache.keep(answer, kept or NONE_VALUE)
    elif isinstance(ended.error, NoResultError):
        cache.give_back(answer)
    else:
        await cache.fail(answer)
    return ended


_TRUE, _FALSE = b"true", b"false"


@dataclass(slots=True)
class ResultCache:
    """The results of one namespace, in the run store under a namespace of its own.

    An entry is a run of one step, named by its key: only one of a name can be going, its step has
    a lease as every step, its record holds the value and when it was made, and it goes when ended
    runs go. Nothing is opened before a step asks.
    """

    store: RunStore
    random: random.Random = field(default_factory=random.Random)
    leases: LeaseKeeper = field(init=False)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _opened: bool = False
    _looking: asyncio.Task[None] | None = None
    _asked_at: float = float("-inf")
    _cleaned_at: float = float("-inf")
    _background: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])

    def __post_init__(self) -> None:
        self.leases = LeaseKeeper(self.store, self.store.options.lease_seconds)

    @classmethod
    def beside(cls, store: RunStore) -> ResultCache:
        """The cache that belongs to a store of runs."""
        return cls(store.twin(namespace=f"{store.options.namespace}.cache"))

    async def ask(self, question: Question) -> Answer:
        """Find a result, or the right to compute it, or how long to wait for who has that right.

        Raises:
            StoreError: The store does not answer.
        """
        await self._open()
        run_id = await ask(lambda: self.store.find(question.key), self.random, tries=TRIES)
        if run_id is not None:
            answer = await self._look(run_id, question)
            if answer is not None:
                return answer
        claim = await self._create(question, run_id)
        if claim is None:
            return self._wait(question)
        if run_id is not None:
            old = run_id
            await ask(lambda: self.store.delete(old), self.random, tries=TRIES)
        await self._clean(question.now)
        return claim

    async def keep(self, claim: Claim, value: bytes) -> None:
        """Store what was computed, for everybody."""
        await self._finish(claim, Done(value))

    async def fail(self, claim: Claim) -> None:
        """Say that there is no result: it is not kept, and those who wait try themselves."""
        await self._finish(claim, Failed(b"null"))

    def give_back(self, claim: Claim) -> None:
        """Let another step compute it: this one was stopped."""
        lease = claim.lease
        self.leases.drop(lease.token)
        self._later(self._release(lease))

    async def close(self) -> None:
        """Give back what is claimed, and close the store."""
        if not self._opened:
            return
        self.leave()
        for lease in self.leases.held:
            self.give_back(Claim(lease))
        if self._background:
            await asyncio.wait(list(self._background))
        await self.store.close()

    def leave(self) -> None:
        """Stop what goes on beside the steps; what is claimed runs out."""
        self._opened = False
        self.leases.stop()
        if self._looking is not None and not self._looking.get_loop().is_closed():
            self._looking.cancel()
        self._looking = None

    async def _open(self) -> None:
        if not self._opened:
            async with self._opening:
                if not self._opened:
                    await ask(self.store.open, self.random, tries=TRIES)
                    self.leases.start()
                    self._opened = True

    async def _look(self, run_id: str, question: Question) -> Answer | None:
        """What an entry has to offer; None when it is of no use (any more)."""
        try:
            ending = await ask(lambda: self.store.ending(run_id, (0,)), self.random, tries=TRIES)
        except RunNotFoundError:
            return None
        if ending is None:
            return await self._take(run_id) or self._wait(question)
        run, value = ending.snapshot, ending.values.get(0)
        if run.status is not RunStatus.COMPLETED or not isinstance(value, bytes):
            return None
        age = question.now - (run.ended_at or 0.0)
        return None if question.ttl is not None and age >= question.ttl else Hit(value)

    async def _create(self, question: Question, last: str | None) -> Claim | None:
        """Begin an entry; None when another step was quicker.

        Its id follows from the last one's, so that whoever saw the same last one can make only
        this one: also when somebody else has made it, and computed its result, since.
        """
        step = StepRecord(index=0, name="result", task=question.task, blob=b"", queue=QUEUE)
        new = NewRun(
            run_id=derived_run_id(0.0, question.key, last),
            namespace=self.store.options.namespace,
            steps=(step,),
            plan=b"{}",
            kind="cached",
            name=question.task,
            key=question.key,
            queue=QUEUE,
        )
        try:
            await ask(lambda: self.store.create(new), self.random, tries=TRIES)
        except DuplicatePipelineError:
            return None
        return await self._take(new.run_id)

    async def _take(self, run_id: str) -> Claim | None:
        """Take the lease of an entry, if nobody has it: who had it may have died."""
        token, asked_at = new_token(), now_monotonic()
        address = Address(run_id, 0, 0)
        granted = await ask(lambda: self.store.start(address, token), self.random, tries=TRIES)
        if not isinstance(granted, Grant):
            return None
        lease = Lease.taken(granted, asked_at, asyncio.get_running_loop())
        self.leases.hold(lease)
        return Claim(lease)

    def _wait(self, question: Question) -> Wait:
        """Have it looked whether who computes is alive, for as long as somebody waits."""
        self._asked_at = now_monotonic()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_for_the_dead())
        pause = max(FIRST_WAIT_SECONDS, min(question.waited / 4, LONGEST_WAIT_SECONDS))
        return Wait(pause * (0.75 + 0.5 * self.random.random()))

    async def _look_for_the_dead(self) -> None:
        """Let leases run out that nobody renews, so that those who wait may take over.

        As often as `Recovery` does it: rarer looks would seem an outage to the store.
        """
        lease_seconds = self.store.options.lease_seconds
        while now_monotonic() - self._asked_at < 3 * lease_seconds + LONGEST_WAIT_SECONDS:
            try:
                await self.store.due((QUEUE,))
            except StoreError as error:
                logger.warning("Cached results are looked after later: %s", error)
            await asyncio.sleep(min(1.0, lease_seconds / 4))

    async def _finish(self, claim: Claim, outcome: Done | Failed) -> None:
        """Record how it went. The step goes on whatever the store says: its own result counts."""
        lease = claim.lease
        try:
            await ask(
                lambda: self.store.finish(lease.address, lease.token, outcome, None),
                self.random,
                tries=TRIES,
            )
        except StoreError as error:
            logger.warning("A result was not kept: %s", error)
        finally:
            self.leases.drop(lease.token)

    async def _release(self, lease: Lease) -> None:
        try:
            await ask(
                lambda: self.store.release(lease.address, lease.token), self.random, tries=TRIES
            )
        except StoreError as error:
            logger.info("A claim on a result runs out by itself: %s", error)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _clean(self, now: float) -> None:
        """Remove now and then what is older than any result is kept."""
        if now_monotonic() - self._cleaned_at < CLEAN_SECONDS:
            return
        self._cleaned_at = now_monotonic()
        before = now - self.store.options.retention_seconds
        await ask(lambda: self.store.purge(before=before, limit=CLEANED), self.random, tries=TRIES)
