"""One stored value with what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from taskiq_flow.exceptions import StorageUseError


def _now() -> datetime:
    return datetime.now(UTC)


def _no_tags() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class StorageEntry:
    """A value under its key; ``expires_at=None`` means that it never expires."""

    key: str
    value: Any
    created_at: datetime = field(default_factory=_now)
    expires_at: datetime | None = None
    metadata: dict[str, Any] = field(default_factory=_no_tags)

    def __post_init__(self) -> None:
        for name, time in (("created_at", self.created_at), ("expires_at", self.expires_at)):
            if time is not None and time.tzinfo is None:
                raise StorageUseError(name, time, "has no time zone; use datetime.now(UTC)")

    def is_expired(self) -> bool:
        """Say whether its time is over."""
        return self.expires_at is not None and self.expires_at <= _now()

    def remaining_ttl(self) -> float | None:
        """Seconds until it expires, 0 when it has; None if it never does."""
        if self.expires_at is None:
            return None
        return max(0.0, (self.expires_at - _now()).total_seconds())
