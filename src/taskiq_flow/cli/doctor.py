"""``taskiq-flow doctor``: looks whether store, broker, versions and clocks are fit for work."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from taskiq import AsyncBroker, InMemoryBroker

from taskiq_flow.cli.common import Settings, command, without_password
from taskiq_flow.cli.exits import Exit
from taskiq_flow.cli.guarantees import ONCE, delivery_of, guarantee_of
from taskiq_flow.cli.hosting import start_broker
from taskiq_flow.cli.output import cell
from taskiq_flow.cli.targets import load_broker
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.display import duration, one_line
from taskiq_flow.engine.host import check_host
from taskiq_flow.engine.results import RunResults
from taskiq_flow.engine.routing import own_queues
from taskiq_flow.engine.runtime import runtimes
from taskiq_flow.engine.standing import Standing, look_into
from taskiq_flow.exceptions import RunNotFoundError, TaskiqFlowError, UnsupportedHostError
from taskiq_flow.middleware import PipelineMiddleware
from taskiq_flow.model.records import RunFilter, RunStatus, WorkerRecord
from taskiq_flow.optimization.parallel import max_parallel_tasks
from taskiq_flow.stores.base import FORMAT_VERSION, RunStore
from taskiq_flow.stores.factory import make_store, store_options

SKEW_SECONDS, SKEW_MOST_SECONDS = 0.5, 5.0
"""Clocks that differ by more than the first are worth a word, by more than the second a fault."""

SLOW_MS = 20.0
"""A store that takes longer to answer makes every step slower by as much."""

PACKAGES = (
    "taskiq-flow", "taskiq", "pydantic", "taskiq-redis", "redis", "sqlalchemy", "aiosqlite",
    "asyncpg", "cronsim", "starlette", "rich", "typer",
)  # fmt: skip


LOOKED_RUNS = 20
"""So many runs of each status that goes on are looked at."""


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; ``fix`` is what to do about it."""

    name: str
    verdict: Verdict
    says: str
    fix: str = ""


@command
async def doctor(
    settings: Settings,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:BROKER",
            help="Look at this broker too, and at the store that it uses.",
            show_default=False,
        ),
    ] = None,
) -> Exit:
    """Check store, broker, workers, versions and clocks, and say what is really guaranteed.

    The exit code is 1 when something is at fault, and 4 when the store or the broker does not
    answer.
    """
    checks = [_versions(), _host(), _settings()]
    loaded = None if broker is None else load_broker(broker)
    store, is_own = _store(settings, loaded)
    health: Mapping[str, Any] = {}
    code = Exit.OK
    try:
        try:
            found, health = await _look_at_store(store)
            checks += found
            workers = await store.workers()
            checks += [_workers(workers, loaded), await _look_at_runs(store)]
        except TaskiqFlowError as error:
            checks.append(Check("store", Verdict.FAULT, str(error)))
            code, workers = Exit.UNREACHABLE, []
        if loaded is not None:
            try:
                async with start_broker(loaded):
                    checks += _look_at_broker(loaded, store)
            except TaskiqFlowError as error:
                checks.append(Check("broker", Verdict.FAULT, str(error)))
                code = Exit.UNREACHABLE
    finally:
        if is_own:
            await store.close()
    if code is Exit.OK and any(check.verdict is Verdict.FAULT for check in checks):
        code = Exit.RUN_FAILED
    _tell(settings, checks, health, loaded)
    return code


def _store(settings: Settings, broker: AsyncBroker | None) -> tuple[RunStore, bool]:
    """The store of a broker, else the one that was named; and whether it is to be closed here."""
    runtime = None if broker is None else runtimes.get(broker)
    if runtime is not None and settings.store is None:
        return runtime.store, isinstance(broker, InMemoryBroker)
    return make_store(settings.store_url, store_options(TaskiqFlowConfig())), True


# -- what is looked at


def _versions() -> Check:
    found: list[str] = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return Check("versions", Verdict.OK, ", ".join(found))


def _host() -> Check:
    try:
        check_host()
    except UnsupportedHostError as error:
        return Check("taskiq", Verdict.FAULT, error.what, error.fix)
    return Check("taskiq", Verdict.OK, "has all that is needed")


def _settings() -> Check:
    config = TaskiqFlowConfig()
    most = max_parallel_tasks()
    held = "" if most is None else f", at most {most} steps at once in this process"
    return Check(
        "settings",
        Verdict.OK,
        f"namespace {config.namespace!r}, lease {config.lease_seconds:g} s, messages count as "
        f"lost after {config.kick_seconds:g} s, ended runs are kept "
        f"{duration(config.retention_seconds)}{held}",
    )


async def _look_at_store(store: RunStore) -> tuple[list[Check], Mapping[str, Any]]:
    await store.open()
    before = time.time()
    health = await store.health()
    after = time.time()
    kind = health.get("store", "store")
    number = health.get("version") or health.get("redis_version") or ""
    says = f"{kind} {number} answers at {store.url}".replace("  ", " ")
    checks = [
        Check("store", Verdict.OK, without_password(store.url, says)),
        Check("format", Verdict.OK, f"{FORMAT_VERSION}, the one that this version writes"),
    ]
    latency = health.get("latency_ms")
    if isinstance(latency, int | float):
        slow = latency > SLOW_MS
        checks.append(
            Check(
                "latency",
                Verdict.NOTE if slow else Verdict.OK,
                f"{latency:.1f} ms for one question",
                "Every step takes at least one; run workers nearer to the store." if slow else "",
            )
        )
    clock = health.get("clock")
    if isinstance(clock, int | float):
        checks.append(_clock(clock, before, after))
    return checks, health


def _clock(store: float, before: float, after: float) -> Check:
    """Compare the store's clock with ours; what the question itself took does not count."""
    skew = 0.0 if before <= store <= after else min(store - before, store - after, key=abs)
    says = f"the store's differs from this machine's by {duration(abs(skew))}"
    if abs(skew) <= SKEW_SECONDS:
        return Check("clocks", Verdict.OK, says)
    verdict = Verdict.FAULT if abs(skew) > SKEW_MOST_SECONDS else Verdict.NOTE
    fix = (
        "Leases go by the store's clock alone, but times in logs and schedules will look wrong; "
        "set the clocks by NTP."
    )
    return Check("clocks", verdict, says, fix)


def _workers(workers: list[WorkerRecord], broker: AsyncBroker | None) -> Check:
    if broker is None or isinstance(broker, InMemoryBroker):
        many = f"{len(workers)} alive" if workers else "none alive"
        return Check("workers", Verdict.OK, many)
    wanted = set(own_queues(broker))
    serving = [worker for worker in workers if wanted & set(worker.queues)]
    if serving:
        return Check("workers", Verdict.OK, f"{len(serving)} serve {', '.join(sorted(wanted))}")
    others = sorted({queue for worker in workers for queue in worker.queues})
    says = f"none serves {', '.join(sorted(wanted))}"
    if others:
        says += f"; there are workers of {', '.join(others)}"
    fix = "Start one: taskiq worker MODULE:BROKER, with the same store and namespace."
    return Check("workers", Verdict.FAULT, says, fix)


async def _look_at_runs(store: RunStore) -> Check:
    """Whether some of the newest runs that go on stand still, with the first reason."""
    looked, stuck = 0, list[tuple[str, Standing]]()
    for status in (RunStatus.RUNNING, RunStatus.PENDING):
        page = await store.list_runs(RunFilter(status=status), limit=LOOKED_RUNS)
        for run_id in (run.run_id for run in page.runs):
            try:
                plan = await RunResults(store).plan(run_id)
            except RunNotFoundError:
                continue  # it was removed meanwhile
            run = await store.get(run_id)
            found = () if run is None else await look_into(store, run, plan)
            looked += 1
            stuck += [(run_id, each) for each in found if each.cause.is_trouble][:1]
    if not looked:
        return Check("runs", Verdict.OK, "none goes on")
    seen = f"the newest {looked} that go on" if looked >= LOOKED_RUNS else f"{looked} that go on"
    if not stuck:
        return Check("runs", Verdict.OK, f"of {seen} none stands still")
    run_id, why = stuck[0]
    stand = "stands" if len(stuck) == 1 else "stand"
    says = f"{len(stuck)} of {seen} {stand} still; {run_id[-8:]}: {why.text}"
    others = " `taskiq-flow list` has the others." if len(stuck) > 1 else ""
    return Check("runs", Verdict.NOTE, says, f"{why.advice}.{others}")


def _look_at_broker(broker: AsyncBroker, store: RunStore) -> list[Check]:
    kind, delivery = type(broker).__name__, delivery_of(type(broker))
    checks = [
        Check(
            "broker",
            Verdict.OK if delivery.is_known else Verdict.NOTE,
            f"{kind} answers; it delivers {delivery.says}"
            if not isinstance(broker, InMemoryBroker)
            else f"{kind} {delivery.says}",
        )
    ]
    runtime = runtimes.get(broker)
    if not any(isinstance(each, PipelineMiddleware) for each in broker.middlewares):
        fix = "broker.add_middlewares(PipelineMiddleware()) where workers import the broker."
        checks.append(Check("middleware", Verdict.FAULT, "workers would run no pipelines", fix))
    elif runtime is not None and _place(runtime.store) != _place(store):
        fix = "Give clients and workers the same TASKIQ_FLOW_STORE_URL and TASKIQ_FLOW_NAMESPACE."
        says = f"the broker's runs live in {_place(runtime.store)}, not in {_place(store)}"
        checks.append(Check("middleware", Verdict.FAULT, says, fix))
    else:
        checks.append(Check("middleware", Verdict.OK, "is on the broker, with this store"))
    return checks


def _place(store: RunStore) -> str:
    return f"{without_password(store.url)}, namespace {store.options.namespace!r}"


# -- what is said

_SIGNS = {Verdict.OK: ("✓", "green"), Verdict.NOTE: ("!", "yellow"), Verdict.FAULT: ("✗", "red")}


def _tell(
    settings: Settings,
    checks: list[Check],
    health: Mapping[str, Any],
    broker: AsyncBroker | None,
) -> None:
    guarantee = guarantee_of(health) if health else None
    delivery = delivery_of(InMemoryBroker if broker is None else type(broker))
    config = TaskiqFlowConfig()
    means = delivery.means.format(kick=config.kick_seconds, lease=config.lease_seconds)
    output = settings.output
    if settings.as_json:
        output.json(
            {
                "checks": checks,
                "guarantee": guarantee,
                "delivery": None if broker is None else {"says": delivery.says, "means": means},
                "health": health,
            }
        )
        return
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(width=1)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for check in checks:
        sign, style = _SIGNS[check.verdict]
        made.add_row(Text(sign, style=style), check.name, cell(check.says, most=2000))
        if check.fix:
            made.add_row("", "", Text(f"→ {one_line(check.fix, 500)}", style=style))
    output.show(made)
    if guarantee is None:
        return
    facts: list[tuple[str, str]] = [("keeps", guarantee.keeps), ("may lose", guarantee.loses)]
    if broker is not None:
        facts.append(("messages", means))
    facts.append(("twice", ONCE))
    facts += [("for more", advice) for advice in guarantee.advice]
    told = Table.grid(padding=(0, 2, 0, 0))
    told.add_column(style="bright_black", no_wrap=True)
    told.add_column(overflow="fold")
    for name, text in facts:
        style = "yellow" if name == "for more" and guarantee.is_weak else ""
        told.add_row(f"  {name}", cell(text, style, most=2000))
    output.show("", Text("What is guaranteed here", style="bold"), told)
