"""Turns addresses of pages into questions and back, so that every view has its own; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations.models import LetterQuery, RunQuery

SPANS = {"1h": 1.0, "24h": 24.0, "7d": 168.0}
"""Stretches of time that can be chosen, in hours."""

_TEXT_MOST = 200


def path(*parts: str, **query: str | int | float | None) -> str:
    """An address below the dashboard: parts quoted, and only what is set of the query."""
    asked = urlencode({name: value for name, value in query.items() if value not in (None, "")})
    return "/" + "/".join(quote(part, safe="") for part in parts) + (f"?{asked}" if asked else "")


@dataclass(frozen=True, slots=True)
class RunView:
    """Which runs are looked at: what the address of the list says.

    ``span`` is a key of `SPANS`, empty for all times; ``since`` and ``until`` are ISO times and
    count instead of it. ``cursor`` is the place in the list.
    """

    status: str = ""
    q: str = ""
    name: str = ""
    tag: str = ""
    kind: str = ""
    span: str = ""
    since: str = ""
    until: str = ""
    cursor: str = ""

    @classmethod
    def of(cls, params: Mapping[str, str]) -> RunView:
        known = {name: params.get(name, "").strip()[:_TEXT_MOST] for name in cls.__slots__}
        known["status"] = known["status"].lower()
        if known["status"].upper() not in RunStatus.__members__:
            known["status"] = ""
        if known["span"] not in SPANS:
            known["span"] = ""
        for bound in ("since", "until"):
            if _moment(known[bound]) is None:
                known[bound] = ""
        known["cursor"] = params.get("cursor", "")
        return cls(**known)

    def query(self, now: datetime) -> RunQuery:
        """The same as a question for the operations; a search is about the name's beginning."""
        since = _moment(self.since)
        if since is None and self.span:
            # On the minute, so that the same view asks the same for a while.
            since = now.replace(second=0, microsecond=0) - timedelta(hours=SPANS[self.span])
        return RunQuery(
            status=RunStatus[self.status.upper()] if self.status else None,
            name=self.name or None,
            search=self.q or None,
            kind=self.kind or None,
            tag=self.tag or None,
            since=since,
            until=_moment(self.until),
        )

    def params(self, **changes: str) -> dict[str, str]:
        """The query of its address, with changes; what is empty is left out."""
        known = {name: getattr(self, name) for name in self.__slots__} | changes
        return {name: value for name, value in known.items() if value}

    @property
    def filters(self) -> list[tuple[str, str]]:
        """What narrows it: names of its parameters and how to say them."""
        said = (
            ("status", f"status {self.status.capitalize()}"),
            ("q", f"name begins with {self.q}"),
            ("name", f"name {self.name}"),
            ("tag", f"tag {self.tag}"),
            ("kind", f"kind {self.kind}"),
            ("span", f"last {self.span}"),
            ("since", f"from {self.since}"),
            ("until", f"to {self.until}"),
        )
        return [(name, words) for name, words in said if getattr(self, name)]


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters are looked at, and which of them is open."""

    name: str = ""
    task: str = ""
    error: str = ""
    tag: str = ""
    span: str = ""
    retried: str = ""
    cursor: str = ""
    open: str = ""

    @classmethod
    def of(cls, params: Mapping[str, str]) -> LetterFilter:
        known = {name: params.get(name, "").strip()[:_TEXT_MOST] for name in cls.__slots__}
        if known["span"] not in SPANS:
            known["span"] = ""
        known["cursor"] = params.get("cursor", "")
        return cls(**known)

    def query(self, now: datetime) -> LetterQuery:
        since = now - timedelta(hours=SPANS[self.span]) if self.span else None
        return LetterQuery(
            name=self.name or None,
            task=self.task or None,
            error=self.error or None,
            tag=self.tag or None,
            since=since,
            include_retried=bool(self.retried),
        )

    def params(self, **changes: str) -> dict[str, str]:
        known = {name: getattr(self, name) for name in self.__slots__} | changes
        return {name: value for name, value in known.items() if value}

    @property
    def filters(self) -> list[str]:
        said = (
            (self.name, f"name {self.name}"),
            (self.task, f"task {self.task}"),
            (self.error, f"error {self.error}"),
            (self.tag, f"tag {self.tag}"),
            (self.span, f"last {self.span}"),
        )
        return [words for value, words in said if value]


def number(text: str | None, *, most: float = 1e12) -> float | None:
    """A number of an address; None where it is none, or not finite."""
    try:
        found = float(text) if text else None
    except ValueError:
        return None
    return found if found is not None and -most <= found <= most else None


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
