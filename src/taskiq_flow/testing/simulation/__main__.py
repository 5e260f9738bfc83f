"""Replays schedules: ``python -m taskiq_flow.testing.simulation --seed 123 --trace``."""

from __future__ import annotations

import argparse
import sys

from taskiq_flow.testing.simulation.cluster import simulate
from taskiq_flow.testing.simulation.faults import Fault, parse_faults


def main(arguments: list[str] | None = None) -> int:
    """Run the schedules asked for; 1 when one of them broke a promise."""
    parser = argparse.ArgumentParser(
        prog="python -m taskiq_flow.testing.simulation",
        description="Runs the engine in a simulated cluster, and checks what it promises.",
    )
    parser.add_argument("--seed", type=int, default=0, help="the first schedule (default 0)")
    parser.add_argument("--count", type=int, default=1, help="how many, one seed after another")
    parser.add_argument(
        "--faults",
        default="all",
        help=f"all, none, or some of {', '.join(Fault)}, separated by commas",
    )
    parser.add_argument("--trace", action="store_true", help="say what happens, line by line")
    options = parser.parse_args(arguments)
    faults, bad = parse_faults(options.faults), 0
    trace = _say if options.trace else None
    for seed in range(options.seed, options.seed + options.count):
        report = simulate(seed, faults, trace=trace)
        if not report.ok or options.count == 1:
            _say(str(report))
        bad += not report.ok
    if options.count > 1:
        _say(f"{options.count} schedules, {bad} of them broke a promise")
    return 1 if bad else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
