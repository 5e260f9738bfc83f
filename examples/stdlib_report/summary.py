"""Puts the measures of all files together: totals, packages, and what stands out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import PurePosixPath

from examples.stdlib_report.measure import COMPLEXITY_STEPS, FileMeasure, FunctionMeasure

TOP = 20
"""How long the lists of what stands out are."""

SINGLE_MODULES = "single modules"
"""Stands for the package of a file that is in none."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over files; ``public`` and ``documented`` count functions and classes."""

    files: int = 0
    lines: int = 0
    code: int = 0
    docstring: int = 0
    comment: int = 0
    blank: int = 0
    functions: int = 0
    classes: int = 0
    public: int = 0
    documented: int = 0
    decisions: int = 0


@dataclass(frozen=True, slots=True)
class Package:
    """One package of the library, with everything below it."""

    name: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class FilePoint:
    """A file as the pictures show it."""

    path: str
    code: int
    decisions: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """A function that stands out, with the file it is in."""

    path: str
    function: FunctionMeasure


@dataclass(frozen=True, slots=True)
class Imported:
    """A module, and how many files import it."""

    name: str
    files: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is not valid Python, and why."""

    path: str
    error: str


@dataclass(frozen=True, slots=True)
class Summary:
    """All that the report says.

    All but ``all``, ``points`` and ``unreadable`` leave tests out, which else would fill them.
    ``branching`` counts functions by the classes of `COMPLEXITY_STEPS`. ``packages`` are the
    largest first, ``points`` in order of their paths.
    """

    all: Totals
    library: Totals
    packages: tuple[Package, ...]
    points: tuple[FilePoint, ...]
    branching: tuple[int, ...]
    longest: tuple[Ranked, ...]
    most_branching: tuple[Ranked, ...]
    deepest: tuple[Ranked, ...]
    imported: tuple[Imported, ...]
    unreadable: tuple[Unreadable, ...]


def summarise(measures: Iterable[FileMeasure]) -> Summary:
    """Put measures together; their order does not matter."""
    every = sorted(measures, key=attrgetter("path"))
    good = [each for each in every if each.error is None]
    library = [each for each in good if not is_test(each.path)]
    return Summary(
        all=total(every),
        library=total(library),
        packages=_packages(library),
        points=tuple(FilePoint(each.path, each.code, each.decisions) for each in good),
        branching=tuple(
            sum(each.branching[place] for each in library) for place in range(len(COMPLEXITY_STEPS))
        ),
        longest=_top(library, attrgetter("lines", "complexity")),
        most_branching=_top(library, attrgetter("complexity", "lines")),
        deepest=_top(library, attrgetter("nesting", "complexity")),
        imported=_most_imported(library),
        unreadable=tuple(Unreadable(each.path, each.error) for each in every if each.error),
    )


def is_test(path: str) -> bool:
    """Whether a file belongs to the tests of the library and not to the library."""
    return any(part in {"test", "tests", "idle_test"} for part in PurePosixPath(path).parts)


def package_of(path: str) -> str:
    """The top-level package that a file is in."""
    first, _, rest = path.partition("/")
    return first if rest else SINGLE_MODULES


def total(measures: Sequence[FileMeasure]) -> Totals:
    """Add measures up."""
    sums = {
        name: sum(getattr(each, name) for each in measures)
        for name in Totals.__dataclass_fields__
        if name != "files"
    }
    return Totals(files=len(measures), **sums)


def _packages(measures: Iterable[FileMeasure]) -> tuple[Package, ...]:
    grouped: defaultdict[str, list[FileMeasure]] = defaultdict(list)
    for each in measures:
        grouped[package_of(each.path)].append(each)
    packages = [Package(name, total(files)) for name, files in grouped.items()]
    return tuple(sorted(packages, key=lambda each: (-each.totals.lines, each.name)))


def _top(
    measures: Iterable[FileMeasure], rank: Callable[[FunctionMeasure], tuple[int, int]]
) -> tuple[Ranked, ...]:
    found = [Ranked(each.path, function) for each in measures for function in each.notable]
    # Sorting is stable: equals stay in order of path and line.
    return tuple(sorted(found, key=lambda each: rank(each.function), reverse=True)[:TOP])


def _most_imported(measures: Iterable[FileMeasure]) -> tuple[Imported, ...]:
    counts = Counter(name for each in measures for name in each.imports)
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return tuple(Imported(name, files) for name, files in ranked[:TOP])
