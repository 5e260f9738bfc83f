"""Reads the inputs, outputs and the result of a run as previews, a bounded part of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taskiq_flow.engine.results import output_sources
from taskiq_flow.exceptions import OperationError
from taskiq_flow.model.records import RunSnapshot, RunStatus, SequenceValue, Value
from taskiq_flow.operations.models import Preview
from taskiq_flow.operations.previews import Previewer
from taskiq_flow.plan import Plan, Source, input_key
from taskiq_flow.stores.base import RunStore

OUTPUTS_SHOWN = 50
READ_TOGETHER = 10
READ_BYTES = 4 * 1024 * 1024
"""No further value is read when those so far took so many bytes."""

ITEMS_SHOWN = 20
RESULT = "result"


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one run, as far as they are shown."""

    inputs: Mapping[str, Preview]
    outputs: Mapping[str, Preview]
    result: Preview | None
    left_out: int


@dataclass(frozen=True, slots=True)
class ValueReader:
    """Reads values of one run."""

    store: RunStore
    run: RunSnapshot
    plan: Plan
    previewer: Previewer

    async def all(self) -> Values:
        """Inputs first, then outputs in plan order, as long as there is room."""
        inputs = {name: Source(input_key(at)) for at, name in enumerate(self.plan.inputs)}
        ended = {step.index for step in self.run.steps if step.ended_at is not None}
        outputs = {
            name: source
            for name, source in output_sources(self.plan)
            if source.key < 0 or source.key in ended
        }
        shown = dict(list(outputs.items())[:OUTPUTS_SHOWN])
        wanted = dict.fromkeys(
            source.key for source in (*inputs.values(), *self._result_sources(), *shown.values())
        )
        found = await self._read(wanted)
        return Values(
            inputs=await self._previews("inputs", inputs, found),
            outputs=await self._previews("outputs", shown, found),
            result=await self._result(found),
            left_out=len(outputs) - sum(source.key in found for source in shown.values()),
        )

    async def one(self, name: str) -> Preview:
        """One output by its name, ``result``, or an input as ``input:<name>``.

        Raises:
            OperationError: There is none of this name, or not yet.
        """
        if name == RESULT:
            found = await self._read(dict.fromkeys(self.plan.result_keys))
            preview = await self._result(found)
        else:
            kind, _, rest = name.partition(":")
            if kind == "input" and rest in self.plan.inputs:
                path, source = "inputs", Source(input_key(self.plan.inputs.index(rest)))
                label = rest
            else:
                known = dict(output_sources(self.plan)).get(name)
                if known is None:
                    raise OperationError(
                        f"Run {self.run.run_id} has no output {name[:100]!r}; ask for 'result', "
                        f"'input:<name>', or an output by its name."
                    )
                path, source, label = "outputs", known, name
            found = await self._read({source.key: None})
            preview = await self._preview(f"{path}.{label}", source, found)
        if preview is None:
            raise OperationError(f"{name[:100]!r} of run {self.run.run_id} has no value (yet).")
        return preview

    def _result_sources(self) -> list[Source]:
        if self.run.status is not RunStatus.COMPLETED:
            return []
        return [Source(key) for key in self.plan.result_keys][:OUTPUTS_SHOWN]

    async def _read(self, keys: Iterable[int]) -> dict[int, Value]:
        found: dict[int, Value] = {}
        left = list(keys)
        room = READ_BYTES
        while left and room > 0:
            some, left = left[:READ_TOGETHER], left[READ_TOGETHER:]
            read = await self.store.values(self.run.run_id, some)
            room -= sum(len(value) for value in read.values() if isinstance(value, bytes))
            found |= read
        return found

    async def _previews(
        self, path: str, sources: Mapping[str, Source], found: Mapping[int, Value]
    ) -> dict[str, Preview]:
        previews = {
            name: await self._preview(f"{path}.{name}", source, found)
            for name, source in sources.items()
        }
        return {name: preview for name, preview in previews.items() if preview is not None}

    async def _result(self, found: Mapping[int, Value]) -> Preview | None:
        if self.run.status is not RunStatus.COMPLETED:
            return None
        result = self.plan.result
        if isinstance(result, Source):
            return await self._preview(RESULT, result, found)
        names = {source.key: name for name, source in output_sources(self.plan)}
        parts = {
            names.get(key, str(key)): await self._preview(f"{RESULT}.{key}", Source(key), found)
            for key in self.plan.result_keys
        }
        shown = {name: part.value for name, part in parts.items() if part is not None}
        whole = self.previewer.of_value(RESULT, shown)
        is_cut = whole.is_cut or any(part is None or part.is_cut for part in parts.values())
        return Preview(whole.value, "dict", 0, len(parts), is_cut)

    async def _preview(
        self, path: str, source: Source, found: Mapping[int, Value]
    ) -> Preview | None:
        value = found.get(source.key)
        if value is None:
            return None
        if isinstance(value, SequenceValue):
            most = min(value.length, ITEMS_SHOWN if self.previewer.cut.values < 1000 else 500)
            entries = await self.store.items(self.run.run_id, value.key, 0, most)
            return self.previewer.of_items(path, entries, value.length)
        return self.previewer.of_part(path, value, source.part)
