"""Puts like steps of a big graph together until few enough are left to be read; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SHOWN_MOST = 60
"""A graph of more nodes is drawn with groups."""

GROUP_LEAST = 3
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Part:
    """A step, or a group of parts; ``key`` names it, ``kind`` is what its steps have in common."""

    key: str
    kind: str
    steps: tuple[str, ...]
    parts: tuple[Part, ...] = ()

    @property
    def is_group(self) -> bool:
        return bool(self.parts)


@dataclass(frozen=True, slots=True)
class Grouped:
    """The parts that are shown, the edges between their keys, and which groups are open.

    ``groups`` has all groups, shown or open, by key; ``home`` the open groups around each part.
    """

    parts: tuple[Part, ...]
    edges: tuple[tuple[str, str], ...]
    groups: Mapping[str, Part]
    opened: frozenset[str]
    home: Mapping[str, tuple[str, ...]]


def _worth_nothing(_: Part) -> int:
    return 0


def group(
    kinds: Mapping[str, str],
    edges: Iterable[tuple[str, str]],
    *,
    wanted: frozenset[str] | None = None,
    worth: Callable[[Part], int] = _worth_nothing,
) -> Grouped:
    """Group steps, given by name with their kind, in their order; small graphs stay as they are.

    ``wanted`` are the groups that a reader has opened. None leaves the choice: those of the
    highest ``worth`` above 0 are opened, as long as few nodes are shown.
    """
    pairs = list(dict.fromkeys(edges))
    top = _Level([Part(name, kind, (name,)) for name, kind in kinds.items()], pairs)
    if len(kinds) > SHOWN_MOST:
        for _ in range(_ROUNDS):
            before = len(top.parts)
            for collect in (_siblings, _stretches):
                if len(top.parts) > SHOWN_MOST:
                    top = top.joined(collect(top))
            if len(top.parts) in (before, 1):
                break
        if len(top.parts) > SHOWN_MOST:
            top = top.joined(_same_level(top))
    groups = {part.key: part for part in _all_groups(top.parts)}
    opened = (wanted & groups.keys()) if wanted is not None else _choose(top.parts, worth)
    return _opened(top.parts, pairs, groups, frozenset(opened))


@dataclass(slots=True)
class _Level:
    parts: list[Part]
    edges: list[tuple[str, str]]
    before: dict[str, list[str]] = field(default_factory=lambda: defaultdict[str, list[str]](list))
    after: dict[str, list[str]] = field(default_factory=lambda: defaultdict[str, list[str]](list))

    def __post_init__(self) -> None:
        for source, target in self.edges:
            self.after[source].append(target)
            self.before[target].append(source)

    def joined(self, sets: Sequence[Sequence[Part]]) -> _Level:
        """The same graph with each of these sets as one part, at the place of its first."""
        home: dict[str, Part] = {}
        for members in sets:
            steps = tuple(step for part in members for step in part.steps)
            kinds = list(dict.fromkeys(part.kind for part in members))
            kind = kinds[0] if len(kinds) == 1 else f"{kinds[0]} … {kinds[-1]}"
            made = Part(f"{members[0].steps[0]}+{len(steps)}", kind, steps, tuple(members))
            home.update(dict.fromkeys((part.key for part in members), made))
        # By key: a group's hash is that of all that is in it, each time anew.
        parts = [home.get(part.key, part) for part in self.parts]
        parts = list({part.key: part for part in parts}.values())
        edges = (
            (home[source].key if source in home else source,
             home[target].key if target in home else target)
            for source, target in self.edges
        )  # fmt: skip
        return _Level(parts, list(dict.fromkeys(edge for edge in edges if edge[0] != edge[1])))


def _siblings(level: _Level) -> list[list[Part]]:
    """Parts of one kind that come after the same parts, and before the same."""
    found: dict[object, list[Part]] = defaultdict(list)
    for part in level.parts:
        signature = part.kind, tuple(level.before[part.key]), tuple(level.after[part.key])
        found[signature].append(part)
    return [members for members in found.values() if len(members) >= GROUP_LEAST]


def _stretches(level: _Level) -> list[list[Part]]:
    """Parts that follow one another without a branch."""
    by_key = {part.key: part for part in level.parts}
    inner = {
        source: level.after[source][0]
        for source in by_key
        if len(level.after[source]) == 1 and len(level.before[level.after[source][0]]) == 1
    }
    heads = inner.keys() - set(inner.values())
    found: list[list[Part]] = []
    for head in by_key:
        if head not in heads:
            continue
        chain = [by_key[head]]
        while chain[-1].key in inner:
            chain.append(by_key[inner[chain[-1].key]])
        if len(chain) >= GROUP_LEAST:
            found.append(chain)
    return found


def _same_level(level: _Level) -> list[list[Part]]:
    """Parts of one kind at one distance from the start; joining them makes no circle."""
    depth: dict[str, int] = {}
    waits = {part.key: len(level.before[part.key]) for part in level.parts}
    free = [key for key, count in waits.items() if not count]
    for key in free:
        depth.setdefault(key, 0)
        for target in level.after[key]:
            depth[target] = max(depth.get(target, 0), depth[key] + 1)
            waits[target] -= 1
            if not waits[target]:
                free.append(target)
    found: dict[object, list[Part]] = defaultdict(list)
    for part in level.parts:
        found[depth.get(part.key, 0), part.kind].append(part)
    return [members for members in found.values() if len(members) >= GROUP_LEAST]


def _all_groups(parts: Iterable[Part]) -> Iterable[Part]:
    for part in parts:
        if part.is_group:
            yield part
            yield from _all_groups(part.parts)


def _choose(parts: Sequence[Part], worth: Callable[[Part], int]) -> set[str]:
    """The groups that open by themselves."""
    opened: set[str] = set()
    shown = len(parts)
    open_next = [part for part in parts if part.is_group]
    while open_next:
        best = max(open_next, key=worth)
        open_next.remove(best)
        if worth(best) <= 0:
            break
        if shown + len(best.parts) - 1 <= SHOWN_MOST:
            opened.add(best.key)
            shown += len(best.parts) - 1
            open_next += [part for part in best.parts if part.is_group]
    return opened


def _opened(
    parts: Sequence[Part],
    pairs: Sequence[tuple[str, str]],
    groups: Mapping[str, Part],
    opened: frozenset[str],
) -> Grouped:
    shown: list[Part] = []
    home: dict[str, tuple[str, ...]] = {}

    def show(part: Part, around: tuple[str, ...]) -> None:
        if part.key in opened:
            for inner in part.parts:
                show(inner, (*around, part.key))
        else:
            shown.append(part)
            home[part.key] = around

    for part in parts:
        show(part, ())
    place = {step: part.key for part in shown for step in part.steps}
    edges = dict.fromkeys((place[source], place[target]) for source, target in pairs)
    inner = tuple(edge for edge in edges if edge[0] != edge[1])
    return Grouped(tuple(shown), inner, groups, opened, home)
