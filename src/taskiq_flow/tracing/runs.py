"""Which trace a run belongs to, in every process the same."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link

from taskiq_flow.codec import decode
from taskiq_flow.engine.callbacks import ON_RETRY_OF
from taskiq_flow.engine.compensation import COMPENSATES
from taskiq_flow.engine.forks import FORK_OF, RETRY_OF
from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import RunSnapshot
from taskiq_flow.stores.base import RunStore
from taskiq_flow.tracing.emitter import Emitter
from taskiq_flow.tracing.spans import span_context

logger = logging.getLogger("taskiq_flow.tracing")

TRACE = "trace"
"""In the meta data of a run: trace, caller's span and whether it is recorded, in hexadecimal."""

KNOWN_RUNS = 10_000

ANSWER_SECONDS = 1.0
"""A run whose trace the store does not tell in this time gets one of its own."""


class RunTrace(NamedTuple):
    """The trace of a run; ``parent_id`` is the span that started it, 0 if none did."""

    run_id: str
    trace_id: int
    parent_id: int
    sampled: bool
    links: tuple[Link, ...] = ()

    @property
    def span_id(self) -> int:
        """The span of the run itself."""
        return _id(8, self.run_id)

    def step_id(self, step: int) -> int:
        """The span of one of its steps."""
        return _id(8, self.run_id, step)


class RunTraces:
    """Knows the traces of runs: of those started here, and by the store of all others.

    The ids of the spans of a run and of its steps follow from the run's id. So every process can
    name them as parents, and whichever sees their end emits them.
    """

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._known: OrderedDict[str, RunTrace] = OrderedDict()

    def stamp(self, run_id: str) -> Mapping[str, Any]:
        """What is stored with a run that is started now, in the caller's context."""
        provider = self._emitter.provider
        if provider is None:
            return {}
        caller = trace.get_current_span().get_span_context()
        if caller.is_valid:
            sampled = caller.trace_flags.sampled
            found = RunTrace(run_id, caller.trace_id, caller.span_id, sampled)
        else:
            found = self._own(run_id)
        self._keep(found)
        return {TRACE: f"{found.trace_id:032x}-{found.parent_id:016x}-{found.sampled:d}"}

    def known(self, run_id: str) -> RunTrace | None:
        """The trace of a run that this process has met."""
        return self._known.get(run_id)

    async def of(self, store: RunStore, run_id: str) -> RunTrace:
        """The trace of a run; one of its own if the store does not answer."""
        found = self._known.get(run_id)
        if found is None:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    found = await self._read(store, run_id)
            except (StoreError, TimeoutError) as error:
                logger.info("The trace of run %s is not known now: %r", run_id, error)
                return self._own(run_id)
            self._keep(found)
        return found

    async def _read(self, store: RunStore, run_id: str) -> RunTrace:
        run = await store.get(run_id, steps=False)
        if run is None:
            return self._own(run_id)
        meta: dict[str, Any] = decode(run.meta) if run.meta else {}
        if run.parent is not None:
            above = await self.of(store, run.parent.run_id)
            parent = above.step_id(run.parent.step)
            return RunTrace(run_id, above.trace_id, parent, above.sampled)
        cause = meta.get(COMPENSATES) or meta.get(ON_RETRY_OF)
        if isinstance(cause, str):
            above = await self.of(store, cause)
            return RunTrace(run_id, above.trace_id, above.span_id, above.sampled)
        return self._stamped(run, meta)

    def _stamped(self, run: RunSnapshot, meta: Mapping[str, Any]) -> RunTrace:
        found = _parse(run.run_id, meta.get(TRACE)) or self._own(run.run_id)
        earlier = meta.get(RETRY_OF) or meta.get(FORK_OF)
        if not isinstance(earlier, str):
            return found
        # Made of an earlier run: in its trace, beside it and not below.
        source = span_context(found.trace_id, found._replace(run_id=earlier).span_id)
        return found._replace(links=(Link(source),))

    def _own(self, run_id: str) -> RunTrace:
        trace_id = _id(16, run_id)
        return RunTrace(run_id, trace_id, 0, _is_sampled(self._emitter.provider, trace_id))

    def _keep(self, found: RunTrace) -> None:
        self._known[found.run_id] = found
        if len(self._known) > KNOWN_RUNS:
            self._known.popitem(last=False)


def _is_sampled(provider: TracerProvider | None, trace_id: int) -> bool:
    if provider is None:
        return False
    try:
        decision = provider.sampler.should_sample(None, trace_id, "pipeline").decision
    except Exception:  # foreign code, as exporters are
        logger.exception("The sampler failed; the run is traced.")
        return True
    return decision.is_sampled()


def _parse(run_id: str, stamped: object) -> RunTrace | None:
    if not isinstance(stamped, str):
        return None
    trace_id, parent_id, sampled = stamped.split("-")
    return RunTrace(run_id, int(trace_id, 16), int(parent_id, 16), sampled == "1")


def _id(size: int, *parts: object) -> int:
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest()) or 1
