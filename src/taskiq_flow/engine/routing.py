"""Which queue a step belongs to, and which of its labels travel with its message."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from taskiq import AsyncBroker, InMemoryBroker

ROUTING_LABELS = frozenset(
    {"queue_name", "queue", "priority", "routing_key", "exchange", "partition", "subject"}
)
"""Labels by which brokers choose where a message goes; others stay with the step."""

_QUEUE_ATTRIBUTES = ("queue_name", "subject", "_queue_name", "kafka_topic", "topic")

stand_ins: WeakKeyDictionary[AsyncBroker, AsyncBroker] = WeakKeyDictionary()
"""Brokers of this process that take the steps of pipelines that were made on others."""


def queue_key(broker: AsyncBroker, labels: Mapping[str, Any] | None = None) -> str:
    """Name the queue that a step with these labels goes to, the same in every process.

    Made of the kind of broker, its place on the server and the queue, so that two brokers on one
    store never meet. All in-memory brokers on one store are one: a process may go on with what
    another left.
    """
    broker = stand_ins.get(broker, broker)
    if isinstance(broker, InMemoryBroker):
        return str(getattr(broker, "local_queue", "local"))
    return _key(broker, _queue(broker, labels or {}))


def own_queues(broker: AsyncBroker) -> tuple[str, ...]:
    """The queues that a worker of this broker takes messages from."""
    if isinstance(broker, InMemoryBroker):
        return (queue_key(broker),)
    names = _task_queues(broker) or (_queue(broker, {}), *getattr(broker, "additional_streams", ()))
    return tuple(_key(broker, name) for name in names)


def served_queues(broker: AsyncBroker, labels: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The queues that this process can send to: its own, and those its tasks name."""
    named = (queue_key(broker, each) for each in labels)
    return tuple(dict.fromkeys((*own_queues(broker), *named)))


def _key(broker: AsyncBroker, queue: str) -> str:
    return ":".join((type(broker).__name__, *_place(broker), queue))


def _place(broker: AsyncBroker) -> tuple[str, ...]:
    url = getattr(broker, "url", None)
    if isinstance(url, str):  # RabbitMQ's virtual host
        return tuple(part for part in (urlsplit(url).path.removeprefix("/"),) if part)
    pool = getattr(broker, "connection_pool", None)
    kwargs: Mapping[str, Any] = getattr(pool, "connection_kwargs", {})
    if not kwargs:
        return ()
    server = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
    return (f"{server}/{kwargs.get('db', 0)}",)


def _queue(broker: AsyncBroker, labels: Mapping[str, Any]) -> str:
    several = _task_queues(broker)
    if len(several) == 1:
        return several[0]
    if several:
        return str(labels.get(getattr(broker, "_label_for_routing", "queue_name")) or "")
    own = (getattr(broker, name, None) for name in _QUEUE_ATTRIBUTES)
    queue = next((queue for queue in own if isinstance(queue, str) and queue), "")
    return queue if hasattr(broker, "subject") else str(labels.get("queue_name") or queue)


def _task_queues(broker: AsyncBroker) -> tuple[str, ...]:
    """The queues of a RabbitMQ broker by their routing keys; before its start it may have none."""
    queues: Iterable[Any] | None = getattr(broker, "_task_queues", None)
    if queues is None:
        return ()
    return tuple(queue.routing_key or queue.name for queue in queues) or ("taskiq",)


def route_of(labels: Mapping[str, Any]) -> str:
    """The routing labels as JSON, empty when there are none."""
    chosen = {name: labels[name] for name in sorted(labels) if name in ROUTING_LABELS}
    return json.dumps(chosen, separators=(",", ":"), default=str) if chosen else ""


def labels_of(route: str) -> dict[str, Any]:
    """The routing labels of a route."""
    return dict(json.loads(route)) if route else {}
