"""Which limits a step takes, and how many slots of a map are of use behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from taskiq_flow.dataflow import TaskOptions
from taskiq_flow.limits import merge_limits, rated
from taskiq_flow.model.records import Limit
from taskiq_flow.plan import MapSpec

RATED_SLOTS, RATED_SECONDS = 10, 10.0
"""A map behind a rate has slots for so many items, or for so many seconds' starts if that is more.

Others would only look again and again whether it is their turn."""


def step_limits(
    task_name: str, options: TaskOptions, of_pipeline: Sequence[Limit]
) -> tuple[Limit, ...]:
    """What a step of a task has to hold: its own limits, its rate, and its pipeline's limits."""
    rates = [] if options.rate is None else [rated(f"task:{task_name}", options.rate)]
    return merge_limits([*options.limits, *rates, *of_pipeline])


def useful_slots(spec: MapSpec, limits: Sequence[Limit]) -> MapSpec:
    """Give a map no more slots than its limits let work at once."""
    slots = spec.max_parallel
    for limit in limits:
        if limit.most is not None:
            slots = min(slots, limit.most)
        if limit.per_second is not None:
            rated = math.ceil(limit.per_second * RATED_SECONDS)
            slots = min(slots, max(RATED_SLOTS, limit.burst, rated))
    return replace(spec, max_parallel=slots)
