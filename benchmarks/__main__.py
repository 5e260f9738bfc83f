"""Makes the measurements one after another and shows them, or writes them into the docs."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.matrix import (
    COMPARED,
    FULL,
    QUICK,
    Cell,
    Shape,
    Store,
    background_cells,
    growth_cells,
    listing_cells,
    round_of,
)
from benchmarks.places import Servers, placed
from benchmarks.results import Asked, Measured, Results
from benchmarks.stalls import host_share, spent

CELL_SECONDS = 300.0
"""A cell that takes longer is stopped, and reported as failed."""

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    servers = Servers(
        redis=os.environ.get("TASKIQ_FLOW_TEST_REDIS_URL"),
        postgres=os.environ.get("TASKIQ_FLOW_TEST_POSTGRES_URL"),
    )
    return asyncio.run(_measure_all(options, servers))


async def _measure_all(options: argparse.Namespace, servers: Servers) -> int:
    stores = [store for store in Store if servers.has(store)]
    for absent in (store for store in Store if store not in stores):
        print(f"No cells on {absent}: no server (`make bench` starts them).", file=sys.stderr)
    load = f"{os.getloadavg()[0]:.1f} busy processes beside the benchmark, when it began"
    before = spent()
    # Nobody looks at the times of a quick run, so its cells need not be alone.
    room = asyncio.Semaphore(os.cpu_count() or 1 if options.quick else 1)
    cells = list(_cells(options, stores))
    measured = await asyncio.gather(
        *[_measured(cell, number, servers, room) for number, cell in cells]
    )
    if not measured:
        print(f"Nothing fits --only {' '.join(options.only)}.", file=sys.stderr)
        return 2
    results = Results(measured)
    if options.json is not None:
        cells = [one.to_json() for one in results.cells]
        options.json.write_text(json.dumps(cells, indent=1), encoding="utf-8")
    around = {"Load": load, "Taken by the host": host_share(before, spent())}
    parts = report.sections(results, {**around, **await servers.described()})
    print(report.as_text(parts))
    if (
        not options.quick
        and not options.only
        and not results.failures
        and len(stores) == len(Store)
    ):
        report.write_page(parts)
        print(f"Written to {report.PAGE.relative_to(ROOT)}.", file=sys.stderr)
    return 1 if results.failures else 0


def _cells(options: argparse.Namespace, stores: Sequence[Store]) -> Iterator[tuple[int, Cell]]:
    """Every cell with its round; what is compared takes turns, so that it shares the weather."""
    only: set[str] = set(options.only)
    chosen_stores = [store for store in stores if store in only] or list(stores)
    chosen_shapes = [shape for shape in Shape if shape in only] or list(Shape)
    compared = [shape for shape in chosen_shapes if shape in COMPARED]
    sizes = QUICK if options.quick else FULL
    for number in range(1 if options.quick else options.rounds):
        for cell in round_of(compared, chosen_stores, sizes, count=number == 0):
            yield number, cell
        # A limit in milliseconds is held or not by the weather of one moment.
        for cell in background_cells(chosen_stores, quick=options.quick):
            if cell.shape in chosen_shapes:
                yield number, cell
    others = (
        *growth_cells(chosen_stores, quick=options.quick),
        *listing_cells(chosen_stores, quick=options.quick),
    )
    for cell in others:
        if cell.shape in chosen_shapes:
            yield 0, cell


async def _measured(cell: Cell, number: int, servers: Servers, room: asyncio.Semaphore) -> Measured:
    async with room:
        began = time.monotonic()
        measured = await _measure(cell, number, servers)
        _show(measured, time.monotonic() - began)
    return measured


async def _measure(cell: Cell, number: int, servers: Servers) -> Measured:
    async with placed(cell, servers) as there:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", cell.program),
            env={**os.environ, "BENCHMARK_CELL": there.to_json(), "PYTHONPATH": _python_path()},
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(CELL_SECONDS):
                found, said = await process.communicate()
        except TimeoutError:
            return Measured(cell, number, error=f"took longer than {CELL_SECONDS:g} s")
        finally:
            _end_group(process.pid)
    if process.returncode:
        return Measured(cell, number, error=said.decode(errors="replace")[-3000:])
    facts = json.loads(found)
    facts["asked"] = {name: Asked(*asked) for name, asked in facts.get("asked", {}).items()}
    return Measured(cell, number, **facts)


def _end_group(group: int) -> None:
    """End what a cell has left behind: its worker, if it was stopped in the middle."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _python_path() -> str:
    """Cells find what this process finds, whether the package is installed or not."""
    return os.pathsep.join(path for path in sys.path if path)


def _show(measured: Measured, took: float) -> None:
    if measured.error is not None:
        value = f"FAILED: {measured.error}"
    else:
        value = f"{measured.ms_per_step:8.3f} ms a step"
        if measured.asked:
            value = f"{measured.asked['page'].p50_ms:8.3f} ms a page"
        value += "" if measured.ok else "  WRONG RESULT"
    print(f"{measured.round} {measured.cell.title:32} {value}  ({took:.1f} s)", file=sys.stderr)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    words = [*Shape, *Store]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one round of small sizes; shows that all of it runs"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", nargs="+", default=[], choices=words, help="these shapes and these stores"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every cell there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
