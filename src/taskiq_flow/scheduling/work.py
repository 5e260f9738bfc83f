"""What a job runs: a plan and its inputs, as data that any process can start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from taskiq_flow.codec import encode
from taskiq_flow.compile import Child, Shape, Startable
from taskiq_flow.engine.forks import MAX_PARALLEL
from taskiq_flow.engine.ids import derived_run_id, new_run_id
from taskiq_flow.exceptions import FanOutError
from taskiq_flow.model.records import NewRun
from taskiq_flow.optimization.parallel import lowest, max_parallel_tasks
from taskiq_flow.plan import Plan, input_key, load_plan, plan_to_json


@dataclass(frozen=True, slots=True)
class Work:
    """A run that can be made any number of times; values are in their stored form.

    ``meta`` are facts that each run carries. Ids of runs begin with their time, unless it
    ``hides_time``.
    """

    plan: Plan
    inputs: tuple[bytes, ...] = ()
    items: Mapping[int, Sequence[bytes]] | None = None
    timeout_seconds: float | None = None
    max_parallel: int | None = None
    tags: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    hides_time: bool = False

    @classmethod
    def of(
        cls, pipeline: Startable, args: Sequence[Any], kwargs: Mapping[str, Any], most_items: int
    ) -> Work:
        """Compile a pipeline as it is now for these arguments, as ``kiq`` would.

        Raises:
            ConfigurationError: It cannot be started with them, or a value cannot be stored.
        """
        use = pipeline.as_child()
        child = Child.of(use, Shape(len(args), tuple(kwargs)))
        start = child.encode(use.name, [*args, *kwargs.values()])
        plan = child.plan.compiled.plan
        for step, items in start.items.items():
            if len(items) > most_items:
                raise FanOutError(plan.steps[step].name, len(items), most_items)
        return cls(
            plan,
            tuple(start.inputs),
            start.items or None,
            child.timeout_seconds,
            child.max_parallel,
            child.tags,
        )

    @property
    def name(self) -> str:
        """What is shown: the pipeline's name, else its first step's."""
        return self.plan.name or self.plan.steps[0].name

    def new_id(self) -> str:
        """An id for one more run."""
        return str(uuid4()) if self.hides_time else new_run_id()

    def id_at(self, at: float, *facts: object) -> str:
        """The id of the one run at a time: whoever asks gets the same."""
        if not self.hides_time:
            return derived_run_id(at, *facts)
        digest = hashlib.sha256(repr((at, *facts)).encode()).digest()
        return str(UUID(bytes=digest[:16], version=4))

    def draft(
        self, run_id: str, namespace: str, *, publish: bool, tags: Sequence[str], **facts: Any
    ) -> NewRun:
        """Make a run of it; ``facts`` are further fields of the record."""
        most = lowest(self.max_parallel, max_parallel_tasks())
        meta = dict(self.meta) if most is None else {**self.meta, MAX_PARALLEL: most}
        return NewRun(
            run_id=run_id,
            namespace=namespace,
            steps=self.plan.records,
            plan=self.plan.stored,
            kind=self.plan.kind,
            name=self.plan.name,
            tags=(*self.tags, *tags),
            inputs={input_key(number): value for number, value in enumerate(self.inputs)},
            lengths={step: len(items) for step, items in (self.items or {}).items()},
            timeout_seconds=self.timeout_seconds,
            max_parallel=most,
            publish=publish or self.plan.is_followed,
            queue=self.plan.steps[0].queue,
            meta=encode(meta, where="meta data of the run") if meta else b"",
            **facts,
        )

    @property
    def digest(self) -> str:
        """The same for the same work, in every process."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        data = {
            "plan": plan_to_json(self.plan),
            "inputs": [value.decode() for value in self.inputs],
            "items": [
                [step, [item.decode() for item in items]]
                for step, items in (self.items or {}).items()
            ],
            "timeout": self.timeout_seconds,
            "max_parallel": self.max_parallel,
            "tags": list(self.tags),
            "meta": dict(self.meta),
            "hides_time": self.hides_time,
        }
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Work:
        data: dict[str, Any] = json.loads(text)
        items = {step: [item.encode() for item in items] for step, items in data["items"]}
        return cls(
            load_plan(json.dumps(data["plan"]).encode()),
            tuple(value.encode() for value in data["inputs"]),
            items or None,
            data["timeout"],
            data["max_parallel"],
            tuple(data["tags"]),
            data["meta"],
            data["hides_time"],
        )
