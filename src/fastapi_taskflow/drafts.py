"""A task between `add_task` and the store."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fastapi_taskflow.models import Source, TaskRecord, TaskStatus
from fastapi_taskflow.plans import KIND, Place
from fastapi_taskflow.registry import RegisteredTask
from taskiq_flow.codec import decode, encode
from taskiq_flow.model.records import NewRun
from taskiq_flow.plan import Plan
from taskiq_flow.scheduling.job import ONCE_TAG

# Ids tell tasks apart and are no secrets; asking the system for each would cost 1 µs more.
_random = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_random.seed)

MOMENT_BITS: Final = 26
"""A moment lasts so many bits of nanoseconds, 67 ms: some pages of ids at two thousand a second."""

_NO_TAGS: Mapping[str, str] = MappingProxyType({})


class TaskFacts(NamedTuple):
    """What is stored beside a task's run and its arguments."""

    func: str
    name: str
    executor: str
    queue: str | None = None
    priority: int | None = None
    tags: Mapping[str, str] = _NO_TAGS
    key: str | None = None
    generation: int = 0
    source: Source = "manual"
    run_key: str | None = None
    fire_at: float | None = None

    @classmethod
    def of(
        cls,
        task: RegisteredTask,
        place: Place,
        tags: Mapping[str, str] | None = None,
        key: str | None = None,
        **more: Any,
    ) -> TaskFacts:
        """The facts of a call of a task; ``more`` are further ones by name."""
        said = (task.identity, task.name, task.executor, place.queue, place.priority)
        if not tags and key is None and not more:
            return _plain(*said)
        return cls(*said, dict(tags) if tags else _NO_TAGS, key, **more)

    def of_generation(self, generation: int) -> TaskFacts:
        return self._replace(generation=generation)

    def without_time(self) -> TaskFacts:
        """The facts of a task that is run now, whatever it waited for before."""
        return self._replace(run_key=None, fire_at=None)

    def kept(self) -> dict[str, Any]:
        """The facts that differ from their defaults."""
        facts = self._asdict()
        kept = {name: value for name, value in facts.items() if value != _DEFAULTS.get(name)}
        if self.tags:
            kept["tags"] = dict(self.tags)
        else:
            kept.pop("tags", None)
        return kept

    def stored(self) -> bytes:
        """The same as the meta data of a run."""
        if self._is_plain:
            return _stored_plain(self.func, self.name, self.executor, self.queue, self.priority)
        return encode(self.kept(), where="options of the task")

    @property
    def _is_plain(self) -> bool:
        """Whether nothing but the function and the place say what they are."""
        named = self.tags or self.key is not None or self.run_key is not None
        return not named and self.source == "manual" and self.fire_at is None


@lru_cache(maxsize=1024)
def _plain(
    func: str, name: str, executor: str, queue: str | None, priority: int | None
) -> TaskFacts:
    """The facts of most calls of a task, one object for all of them."""
    return TaskFacts(func, name, executor, queue, priority)


@lru_cache(maxsize=1024)
def _stored_plain(
    func: str, name: str, executor: str, queue: str | None, priority: int | None
) -> bytes:
    facts = _plain(func, name, executor, queue, priority)
    return encode(facts.kept(), where="options of the task")


_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("queue", "priority", "key", "run_key", "fire_at")),
    "generation": 0,
    "source": "manual",
}


def read_facts(meta: bytes) -> TaskFacts:
    """Read what `TaskFacts.stored` wrote; unknown facts are ignored."""
    data: dict[str, Any] = decode(meta) if meta else {}
    known = {name: value for name, value in data.items() if name in TaskFacts._fields}
    for name in ("func", "name", "executor"):
        known.setdefault(name, "")
    return TaskFacts(**known)


@dataclass(slots=True)
class Draft:
    """A task that is about to be stored; ``context`` are the caller's context variables."""

    task: RegisteredTask
    task_id: str
    payload: bytes
    facts: TaskFacts
    place: Place
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    context: Context | None = None
    delay: float | None = None
    created_at: float = field(default_factory=time.time)

    def new_run(self, plan: Plan, namespace: str) -> NewRun:
        """The run that is stored for it."""
        facts = self.facts
        tags = [f"{name}={value}" for name, value in facts.tags.items()]
        if facts.run_key is not None:
            tags.append(ONCE_TAG)
            if facts.key is not None:
                tags.append(key_name(facts.key))  # its name is that of its time
        return NewRun(
            run_id=self.task_id,
            namespace=namespace,
            steps=plan.records,
            plan=plan.stored,
            kind=KIND,
            name=plan.name,
            key=self._key(),
            tags=tuple(tags),
            inputs={-1: self.payload},
            queue=plan.steps[-1].queue,
            meta=facts.stored(),
        )

    def _key(self) -> str | None:
        facts = self.facts
        if facts.run_key is not None:
            return f"once:{facts.run_key}"
        return None if facts.key is None else key_name(facts.key)

    def record(self, status: TaskStatus = TaskStatus.PENDING) -> TaskRecord:
        """The task as its record will show it, before anything is stored."""
        facts = self.facts
        hidden = self.payload.startswith(b'{"encrypted"')
        return TaskRecord(
            task_id=self.task_id,
            func_name=facts.name,
            status=status,
            args=() if hidden else self.args,
            kwargs={} if hidden else dict(self.kwargs),
            created_at=datetime.fromtimestamp(self.created_at, UTC),
            idempotency_key=facts.key,
            tags=dict(facts.tags),
            source=facts.source,
            priority=facts.priority,
            executor=self.task.executor,
            queue=facts.queue,
        )


def key_name(idempotency_key: str) -> str:
    """The name of the runs of a key: the latest of them is found by it."""
    return f"key:{idempotency_key}"


def new_task_id() -> str:
    """A fresh UUID in the form of version 4; log lines show its first eight characters.

    The first three stand for the moment, and come again after five minutes; the rest is random.
    So tasks of one moment lie together in an index of ids: wholly random ones would each change a
    page of their own, which doubles what SQLite writes to its disk once there are many.
    """
    moment = time.time_ns() >> MOMENT_BITS & 0xFFF
    return _written(moment << 116 | _random.getrandbits(116))


def keyed_task_id(namespace: str, key: str, generation: int) -> str:
    """The one id that a task with an idempotency key has: whoever asks gets the same.

    A run of an id is created once, however many instances try to. The generation counts how often
    a task of this key has failed.
    """
    digest = hashlib.sha256(repr((namespace, key, generation)).encode()).digest()
    return _written(int.from_bytes(digest[:16]))


def _written(bits: int) -> str:
    bits = bits & ~(0xF << 76) | 4 << 76
    bits = bits & ~(0x3 << 62) | 2 << 62
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
