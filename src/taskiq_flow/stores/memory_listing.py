"""Runs in memory, in the orders in which they are listed and counted."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, takewhile
from math import inf
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from taskiq_flow.model.records import NewRun, RunFilter, RunStatus, StepStatus, StepTotal
from taskiq_flow.model.state import RunState
from taskiq_flow.stores.step_sums import StepSums, StepTimes

Place: TypeAlias = tuple[float, str]
"""Where a run stands in an order: a time of it, then its id."""

SORTED_MOST = 20_000
"""Runs that are put in order for one question; for more of them an order that is kept is walked."""

FINAL = tuple(status for status in RunStatus if status.is_final)


class Listed(Protocol):
    """A run as far as it is listed."""

    @property
    def new(self) -> NewRun: ...

    @property
    def state(self) -> RunState: ...


ListedT = TypeVar("ListedT", bound=Listed)


Check: TypeAlias = Callable[[Listed], bool]


class _Walk(NamedTuple):
    """Runs in one order or another, and the fields of a filter that all of them fulfil."""

    places: Sequence[Place]
    fields: tuple[str, ...] = ()


class Listing:
    """Orders of runs, brought up to date when they are asked for: running a run costs nothing.

    So the first question after many runs takes as long as putting them in order does. Runs that
    were asked about have to be forgotten when they go.
    """

    def __init__(self) -> None:
        self._created: dict[str, float] = {}
        self._ended: dict[str, Place] = {}
        self._all: list[Place] = []
        self._going: list[Place] = []
        self._of: dict[tuple[str, str], list[Place]] = {}
        self._names: list[str] = []
        self._by_status: dict[RunStatus, list[Place]] = {status: [] for status in FINAL}
        self._by_end: dict[RunStatus, list[Place]] = {status: [] for status in FINAL}

    def update(self, runs: dict[str, ListedT], ended: dict[str, None]) -> None:
        """Take up what came and what ended since the last time; both are in order of that."""
        fresh = list(takewhile(lambda run_id: run_id not in self._created, reversed(runs)))
        for run_id in reversed(fresh):
            self._add(runs[run_id])
        over = list(takewhile(lambda run_id: run_id not in self._ended, reversed(ended)))
        for run_id in reversed(over):
            self._end(runs[run_id])

    def forget(self, run: Listed) -> None:
        """Leave a run out that is removed, if it was ever taken up."""
        run_id = run.new.run_id
        created_at = self._created.pop(run_id, None)
        if created_at is None:
            return
        place = (created_at, run_id)
        _take_out(self._all, place)
        for facet in _facets(run.new):
            _take_out(self._of[facet], place)
            if not self._of[facet]:
                del self._of[facet]
                if facet[0] == "name":
                    del self._names[bisect_left(self._names, facet[1])]
        if run_id in self._ended:
            _take_out(self._by_end[run.state.status], self._ended.pop(run_id))
            _take_out(self._by_status[run.state.status], place)
        else:
            _take_out(self._going, place)

    def runs(
        self, runs: Mapping[str, ListedT], which: RunFilter, before: Place | None
    ) -> Iterator[ListedT]:
        """Those that a filter asks for, newest first, behind a place if one is given."""
        walk = self._walk(which)
        checks = _checks(which, walk.fields)
        first, last = _span(walk.places, which, before)
        for number in range(last - 1, first - 1, -1):
            run = runs[walk.places[number][1]]
            for check in checks:
                if not check(run):
                    break
            else:
                yield run

    def count(self, runs: Mapping[str, Listed], which: RunFilter, at_most: int | None) -> int:
        names = self._names_of(which)
        alone = which.since is None and which.until is None
        walk = self._walk(which)
        if not _checks(which, walk.fields):
            first, last = _span(walk.places, which, None)
            count = last - first
        elif which.is_about_ends and alone and not _checks(which, ("status", "ends")):
            count = sum(last - first for _, first, last in self._ends(which))
        elif not _checks(which, ("search",)):
            spans = (_span(self._of["name", name], which, None) for name in names)
            count = sum(last - first for first, last in spans)
        else:
            return sum(1 for _ in islice(self.runs(runs, which, None), at_most))
        return count if at_most is None else min(count, at_most)

    def count_ended(self, since: float, until: float, status: RunStatus) -> int:
        places = self._by_end[status]
        return bisect_left(places, (until,)) - bisect_left(places, (since,))

    def _walk(self, which: RunFilter) -> _Walk:
        """The shortest way to what a filter asks for."""
        walks = [
            _Walk(self._of.get((field, value), ()), (field,))
            for field in ("name", "kind", "tag")
            if (value := getattr(which, field)) is not None
        ]
        if which.status is not None and which.status.is_final:
            walks.append(_Walk(self._by_status[which.status], ("status",)))
        elif which.status is not None:
            walks.append(_Walk(self._going))
        shortest = min(walks, key=_length, default=_Walk(self._all))
        for made in (self._of_search(which, shortest), self._of_ends(which, shortest)):
            if made is not None and _length(made) <= _length(shortest):
                shortest = made
        return shortest

    def _of_search(self, which: RunFilter, other: _Walk) -> _Walk | None:
        if not which.search:
            return None
        names = self._names_of(which)
        most = min(_length(other), SORTED_MOST)
        if len(names) > most or sum(len(self._of["name", name]) for name in names) > most:
            return None
        found = chain.from_iterable(self._of["name", name] for name in names)
        return _Walk(sorted(found), ("search",))

    def _names_of(self, which: RunFilter) -> list[str]:
        """The names that begin as asked for."""
        begins = which.search or ""
        after = islice(self._names, bisect_left(self._names, begins), None)
        return list(takewhile(lambda name: name.startswith(begins), after)) if begins else []

    def _of_ends(self, which: RunFilter, other: _Walk) -> _Walk | None:
        if not which.is_about_ends:
            return None
        spans = self._ends(which)
        if sum(last - first for _, first, last in spans) > min(_length(other), SORTED_MOST):
            return None
        ids = (run_id for places, first, last in spans for _, run_id in places[first:last])
        return _Walk(sorted((self._created[run_id], run_id) for run_id in ids), ("status", "ends"))

    def _ends(self, which: RunFilter) -> list[tuple[list[Place], int, int]]:
        """Where, in the orders by end, the runs are that ended in the span asked for."""
        statuses = FINAL if which.status is None else (which.status,)
        since = -inf if which.ended_since is None else which.ended_since
        until = inf if which.ended_until is None else which.ended_until
        spans: list[tuple[list[Place], int, int]] = []
        for places in (self._by_end[status] for status in statuses if status.is_final):
            first, last = bisect_left(places, (since,)), bisect_left(places, (until,))
            spans.append((places, first, max(first, last)))
        return spans

    def _add(self, run: Listed) -> None:
        place = (run.state.created_at, run.new.run_id)
        self._created[run.new.run_id] = run.state.created_at
        _put_in(self._all, place)
        _put_in(self._going, place)
        for facet in _facets(run.new):
            if facet not in self._of:
                self._of[facet] = []
                if facet[0] == "name":
                    insort(self._names, facet[1])
            _put_in(self._of[facet], place)

    def _end(self, run: Listed) -> None:
        place = (run.state.created_at, run.new.run_id)
        end = (run.state.ended_at or run.state.created_at, run.new.run_id)
        self._ended[run.new.run_id] = end
        _take_out(self._going, place)
        _put_in(self._by_status[run.state.status], place)
        _put_in(self._by_end[run.state.status], end)


def summed_steps(runs: Iterable[Listed]) -> list[StepTotal]:
    """What the steps of these runs came to, up to the number that may be read."""
    sums = StepSums()
    for run in runs:
        sums.add_run(len(run.new.steps), run.new.name, _times(run))
        if not sums.has_room:
            break
    return sums.totals()


def _times(run: Listed) -> Iterator[StepTimes]:
    for step in run.state.steps.values():
        if step.started_at is not None and step.ended_at is not None:
            yield StepTimes(
                step.record.name,
                step.record.task,
                step.ended_at - step.started_at,
                step.attempt,
                int(step.status is StepStatus.FAILED),
            )


def _facets(new: NewRun) -> list[tuple[str, str]]:
    tags = (("tag", tag) for tag in dict.fromkeys(new.tags))
    return [("name", new.name), ("kind", new.kind), *tags]


def _put_in(places: list[Place], place: Place) -> None:
    if not places or places[-1] < place:
        places.append(place)
    else:
        insort(places, place)


def _take_out(places: list[Place], place: Place) -> None:
    del places[bisect_left(places, place)]


def _span(places: Sequence[Place], which: RunFilter, before: Place | None) -> tuple[int, int]:
    first = 0 if which.since is None else bisect_left(places, (which.since,))
    last = len(places) if which.until is None else bisect_left(places, (which.until,))
    if before is not None:
        last = min(last, bisect_left(places, before))
    return first, max(first, last)


def _length(walk: _Walk) -> int:
    return len(walk.places)


def _checks(which: RunFilter, fulfilled: Sequence[str]) -> list[Check]:
    """What is left to ask of a run, apart from its creation."""
    status, name, kind, tag, search = which.status, which.name, which.kind, which.tag, which.search
    since, until = which.ended_since, which.ended_until
    first, last = -inf if since is None else since, inf if until is None else until

    def ended_within(run: Listed) -> bool:
        ended_at = run.state.ended_at
        return ended_at is not None and first <= ended_at < last

    every: list[tuple[str, bool, Check]] = [
        ("status", status is not None, lambda run: run.state.status is status),
        ("name", name is not None, lambda run: run.new.name == name),
        ("kind", kind is not None, lambda run: run.new.kind == kind),
        ("tag", tag is not None, lambda run: tag in run.new.tags),
        ("search", bool(search), lambda run: run.new.name.startswith(search or "")),
        ("ends", which.is_about_ends, ended_within),
    ]
    return [check for field, asked, check in every if asked and field not in fulfilled]
