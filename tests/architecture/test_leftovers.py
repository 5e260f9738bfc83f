"""Nothing in the repository speaks of one machine, or of work that nobody has promised to do."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.support.tree import ROOT, text_files

# Home directories and mount points: what differs between two machines. `~` and /tmp do not.
MACHINE_PATH = re.compile(r"""(?:^|[\s"'`=(:])(/(?:home|Users|root|work|opt|mnt|srv)/[\w.-]+)""")
PROMISE = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b(?!\s*\(#\d+\))")


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[1]}"
        for path in text_files()
        for number, line in _lines(path)
        if (match := MACHINE_PATH.search(line))
    ]

    assert found == []


def test_work_left_for_later_carries_the_number_of_its_issue() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in text_files()
        for number, line in _lines(path)
        if PROMISE.search(line) and path.name not in {"test_leftovers.py", "CONTRIBUTING.md"}
    ]

    assert found == []


def test_the_lock_file_takes_packages_from_the_public_index_only() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))

    sources = {
        source
        for package in lock["package"]
        if package["name"] != "taskiq-flow"
        for source in package["source"].values()
    }

    assert sources == {"https://pypi.org/simple"}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    return enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
