"""Which runs of a history are asked for, checked before anything is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from taskiq_flow.exceptions import TrackingQueryError
from taskiq_flow.model.numbers import is_number
from taskiq_flow.model.records import RunFilter, RunStatus
from taskiq_flow.stores import paging
from taskiq_flow.tracking.models import PipelineStatus, StatusPage

_BEGINNING = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Each field narrows a history; times are those of the runs' creation, ``until`` excluded."""

    status: RunStatus | None = None
    since: datetime | None = None
    until: datetime | None = None
    pipeline_type: str | None = None
    tag: str | None = None
    name: str | None = None

    @classmethod
    def of(
        cls,
        *,
        status: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        pipeline_type: str | None = None,
        tag: str | None = None,
        name: str | None = None,
    ) -> HistoryQuery:
        """Check what a user asks for.

        Raises:
            TrackingQueryError: There is no such status, a time is none or has no zone, or the rest
                is no text.
        """
        for label, moment in (("since", since), ("until", until)):
            if moment is not None and getattr(moment, "tzinfo", None) is None:
                lacks = "has no time zone" if isinstance(moment, datetime) else "is no datetime"  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TrackingQueryError(
                    label, moment, f"{lacks}; use datetime.now(UTC) for example"
                )
        for label, text in (("pipeline_type", pipeline_type), ("tag", tag), ("name", name)):
            if text is not None and not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TrackingQueryError(label, text, "is no text")
        return cls(_status(status), since, until, pipeline_type, tag, name)

    def as_filter(self) -> RunFilter:
        """The same question for a run store."""
        return RunFilter(
            status=self.status,
            name=self.name,
            kind=self.pipeline_type,
            tag=self.tag,
            since=None if self.since is None else self.since.timestamp(),
            until=None if self.until is None else self.until.timestamp(),
        )

    def matches(self, status: PipelineStatus) -> bool:
        """Whether a record is asked for."""
        created = created_at(status)
        return (
            self.status in (None, status.status)
            and self.name in (None, status.name)
            and self.pipeline_type in (None, status.pipeline_type)
            and (self.tag is None or self.tag in status.tags)
            and (self.since is None or created >= self.since)
            and (self.until is None or created < self.until)
        )


def checked_days(days: float) -> float:
    """How old records may be, as it came.

    Raises:
        TrackingQueryError: It is no number of days.
    """
    if not is_number(days) or not 0 <= days <= 365_000:
        raise TrackingQueryError("days", days, "must be a number from 0 to 365,000")
    return days


def created_at(status: PipelineStatus) -> datetime:
    """When a run began to be; records that users make themselves may not say."""
    return status.created_at or status.started_at or _BEGINNING


def record_key(status: PipelineStatus) -> str:
    """What tells a record from all others, also from those of earlier runs of its name."""
    return status.run_id or status.pipeline_id


def page_of(
    statuses: Iterable[PipelineStatus], query: HistoryQuery, *, limit: int, cursor: str | None
) -> StatusPage:
    """Sort, filter and cut records that were read whole."""
    found = sorted(
        (one for one in statuses if query.matches(one) and _is_behind(one, cursor)),
        key=place,
        reverse=True,
    )
    more = len(found) > limit
    return StatusPage(found[:limit], cursor_after(found[limit - 1]) if more else None)


def place(status: PipelineStatus) -> tuple[float, str]:
    """Where a record stands in a listing; the greatest comes first."""
    return created_at(status).timestamp(), record_key(status)


def cursor_after(status: PipelineStatus) -> str:
    """The cursor of a page that ends with this record."""
    return paging.cursor_after(*place(status))


def place_of(cursor: str) -> tuple[float, str]:
    """The place that a cursor stands for.

    Raises:
        TrackingQueryError: No page has given it.
    """
    try:
        moment, _, key = cursor.partition(" ")
        return float(moment), key
    except (ValueError, TypeError, AttributeError):
        raise paging.no_cursor(cursor) from None


def _is_behind(status: PipelineStatus, cursor: str | None) -> bool:
    return cursor is None or place(status) < place_of(cursor)


def _status(word: str | None) -> RunStatus | None:
    if word is None:
        return None
    try:
        return RunStatus(word.upper())
    except (ValueError, AttributeError):
        known = ", ".join(status.value for status in RunStatus)
        raise TrackingQueryError("status", word, f"is not one of {known}") from None
