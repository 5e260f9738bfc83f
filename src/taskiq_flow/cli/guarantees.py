"""What a broker and a store promise together, and what to change for more; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What holds for work on a combination; ``advice`` is what to change, if anything."""

    keeps: str
    loses: str
    advice: tuple[str, ...] = ()
    is_weak: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a kind of broker treats messages, and what that means for runs."""

    says: str
    means: str
    is_known: bool = True


_RECOVERED = "a lost message costs time, not work: the step is sent again after {kick:g} s or more"
_LOCAL = Delivery(
    "hands steps over in this process", "nothing is sent; what a killed process left is resumed"
)
_DELIVERIES: Mapping[str, Delivery] = {
    "InMemoryBroker": _LOCAL,
    "ListQueueBroker": Delivery(
        "at most once: a worker that dies takes its message along", _RECOVERED
    ),
    "ListQueueClusterBroker": Delivery("at most once", _RECOVERED),
    "ListQueueSentinelBroker": Delivery("at most once", _RECOVERED),
    "PubSubBroker": Delivery(
        "at most once, to every worker that listens at that moment",
        "each step is offered to all workers, one gets it; a lost message is sent again after "
        "{kick:g} s or more",
    ),
    "RedisStreamBroker": Delivery(
        "at least once; a dead worker's messages come back after 10 idle minutes",
        "the store does not wait for that: a step of a dead worker is taken over after its lease "
        "of {lease:g} s, and the message that comes back later changes nothing",
    ),
    "RedisStreamClusterBroker": Delivery(
        "at least once, but never takes back a dead worker's messages", _RECOVERED
    ),
    "RedisStreamSentinelBroker": Delivery(
        "at least once; a dead worker's messages come back after 10 idle minutes", _RECOVERED
    ),
    "AioPikaBroker": Delivery(
        "at least once; acknowledged as soon as a step has its lease", _RECOVERED
    ),
    "NatsBroker": Delivery("at most once", _RECOVERED),
    "PullBasedJetStreamBroker": Delivery(
        "at least once", "what is delivered twice runs once: the second start is refused"
    ),
    "PushBasedJetStreamBroker": Delivery(
        "at least once; clients consume too, so give it DeliverPolicy.NEW",
        "what is delivered twice runs once: the second start is refused",
    ),
    "KafkaBroker": Delivery("at most once: it acknowledges before the work", _RECOVERED),
    "ZeroMQBroker": Delivery("at most once", _RECOVERED),
}
_UNKNOWN = Delivery("unknown to this version", _RECOVERED, is_known=False)


def delivery_of(broker: type) -> Delivery:
    """How a broker delivers; its own class or the nearest one above it that is known."""
    known = (_DELIVERIES[kind.__name__] for kind in broker.__mro__ if kind.__name__ in _DELIVERIES)
    return next(known, _UNKNOWN)


def guarantee_of(health: Mapping[str, Any]) -> Guarantee:
    """What a store keeps through which accident, from what it says of itself."""
    match health.get("store"):
        case "memory":
            return Guarantee(
                "nothing longer than this process",
                "everything, when the process ends",
                ("name a store: sqlite:///runs.sqlite needs no server",),
                is_weak=True,
            )
        case "sqlite":
            return _of_sqlite(health)
        case "redis":
            return _of_redis(health)
        case "postgresql":
            return _of_postgres(health)
        case _:
            return Guarantee("what the store keeps", "what the store loses")


_KILLS = "every recorded step through any killed process"


def _of_sqlite(health: Mapping[str, Any]) -> Guarantee:
    if health.get("survives_power_loss"):
        return Guarantee(
            f"{_KILLS}, and a power cut", "nothing that was recorded, but with the disk"
        )
    return Guarantee(
        _KILLS,
        "the last commits in a power cut or a crash of the machine (they run again)",
        ("for each commit on the disk: sqlite:///file?synchronous=FULL",),
    )


def _of_redis(health: Mapping[str, Any]) -> Guarantee:
    advice: list[str] = []
    if health.get("maxmemory_policy") not in (None, "noeviction"):
        advice.append(
            f"maxmemory-policy is {health['maxmemory_policy']}: a full Redis throws runs away; "
            "set noeviction"
        )
    if not health.get("appendonly"):
        advice.append("turn the append-only file on: CONFIG SET appendonly yes, and in redis.conf")
        lost = "all since the last snapshot when Redis crashes, or everything without snapshots"
        return Guarantee(_KILLS, lost, tuple(advice), is_weak=True)
    fsync = health.get("appendfsync")
    if fsync == "always":
        keeps = f"{_KILLS}, and a crash of Redis"
        return Guarantee(keeps, "nothing that was recorded", tuple(advice), is_weak=bool(advice))
    if fsync == "no":
        advice.append("appendfsync is no: set everysec, or always")
    else:
        advice.append("if a second is too much: appendfsync always, or PostgreSQL")
    lost = (
        "up to the last second when Redis' machine crashes"
        if fsync != "no"
        else ("what the system had not written (about 30 s) when Redis' machine crashes")
    )
    is_weak = fsync == "no" or len(advice) > 1
    return Guarantee(f"{_KILLS}, and a restart of Redis", lost, tuple(advice), is_weak=is_weak)


def _of_postgres(health: Mapping[str, Any]) -> Guarantee:
    if health.get("fsync") == "off":
        advice = ("fsync is off: a crash of the machine can break the database; turn it on",)
        return Guarantee(_KILLS, "anything, when the machine crashes", advice, is_weak=True)
    if health.get("synchronous_commit") == "off":
        advice = ("set synchronous_commit to on for this database",)
        lost = "the last moments (up to 0.6 s) when PostgreSQL crashes"
        return Guarantee(_KILLS, lost, advice)
    return Guarantee(f"{_KILLS}, and a crash of PostgreSQL", "nothing that was recorded")


ONCE = (
    "A recorded step never runs again. A step whose worker dies before that runs again, so make "
    "effects outside repeatable (context.run_id is a good key)."
)
"""What holds whatever broker and store there are."""
