"""What must be true of a cluster after everything has come to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskiq_flow.codec import decode_error
from taskiq_flow.exceptions import StepTimeoutError
from taskiq_flow.model.records import RunStatus
from taskiq_flow.model.state import RunState
from taskiq_flow.model.transitions import DEADLINE_ERROR, POISON_ERROR
from taskiq_flow.testing.simulation.faults import Fault
from taskiq_flow.testing.simulation.oracle import expect
from taskiq_flow.testing.simulation.workload import Work, Workload

if TYPE_CHECKING:
    from taskiq_flow.testing.simulation.cluster import Cluster

DEADLINE_SLACK_SECONDS = 3.0
"""How late a deadline may be seen when nothing keeps a worker from looking."""


def explain_unrest(cluster: Cluster) -> None:
    """Say what has not come to an end, or is left behind."""
    ledger = cluster.store.ledger
    for state in cluster.store.states():
        if not state.status.is_final:
            slots = {
                at: (slot.status.name, slot.due and round(slot.due % 100_000, 1))
                for at, slot in state.slots.items()
                if slot.status.name != "DONE"
            }
            ledger.violated("Every stored run ends", f"{state.run_id} is {state.status}: {slots}")
    for run_id in cluster.store.unsettled():
        ledger.violated("The end of a run is told", f"{run_id} is not published")
    for execution in ledger.executions:
        ledger.violated("Nothing is left behind", f"{execution.unit} on {execution.host.name}")
    for worker in cluster.workers:
        if any(worker.leftovers.values()):
            ledger.violated("Nothing is left behind", f"{worker.name} has {worker.leftovers}")
    for client in cluster.clients:
        if not client.done:
            ledger.violated("Who waits is woken", f"{client.name} for {client.work.run_id}")
    if not ledger.violations:
        ledger.violated("A worker is listening", f"{[worker.name for worker in cluster.workers]}")


async def judge(cluster: Cluster) -> None:
    """Compare every stored run with what it had to become."""
    forgot = cluster.dice.thrown[Fault.FAILOVER] > 0
    states = {state.run_id: state for state in cluster.store.states()}
    for client in cluster.clients:
        state = states.get(client.work.run_id)
        if state is None:
            if client.created and not forgot:
                cluster.store.ledger.violated("What kiq() returned is stored", client.work.run_id)
            continue
        events = await cluster.store.events(state.run_id, limit=100_000)
        cluster.store.check_ended(state, events)
        if client.cancelled and state.status is not RunStatus.CANCELLED and not forgot:
            _wrong(cluster, state, "it was cancelled")
        if client.heard is not None and client.heard is not state.status and not forgot:
            _wrong(cluster, state, f"its client heard {client.heard}")
        _judge_run(cluster, client.work, state)
        _judge_published(cluster, client.work, state)
    for message in cluster.loop.unhandled:
        cluster.store.ledger.violated("Nothing is raised into the void", message)


def _judge_run(cluster: Cluster, work: Workload, state: RunState) -> None:
    expected = expect(work)
    error = state.error
    if state.status is RunStatus.CANCELLED:
        aborted = expected.aborting and state.reason == "the script says so"
        if not aborted and (work.cancel_after is None or state.reason != "enough"):
            _wrong(cluster, state, f"nobody cancelled it, but {state.reason!r}")
    elif state.status is RunStatus.FAILED and error == DEADLINE_ERROR:
        _judge_deadline(cluster, state)
    elif state.status is RunStatus.FAILED and error == POISON_ERROR:
        step = state.steps[state.failed_step or 0]
        if step.lost < max(1, step.record.lost_most):
            _wrong(cluster, state, f"it was called poison after {step.lost} lost leases")
    elif state.status is RunStatus.FAILED:
        if state.failed_step not in expected.failing and not _may_time_out(cluster, work, state):
            _wrong(cluster, state, f"step {state.failed_step} failed: {state.error!r}")
    elif expected.failing or expected.aborting:
        _wrong(cluster, state, "it had to fail")
    elif work.timeout_seconds is not None:
        _judge_deadline(cluster, state)


def _may_time_out(cluster: Cluster, work: Workload, state: RunState) -> bool:
    """Whether a worker may have stood still for longer than the step that failed had time."""
    number = state.failed_step or 0
    stood_still = (work.run_id, number) in cluster.store.ledger.held_up
    if work.plan.steps[number].timeout is None or not stood_still or state.error is None:
        return False
    return decode_error(state.error).type_name.endswith(StepTimeoutError.__name__)


def _judge_deadline(cluster: Cluster, state: RunState) -> None:
    calm = not {Fault.OUTAGE, Fault.PAUSE, Fault.PARTITION, Fault.BLOCK} & set(cluster.dice.thrown)
    known = state.deadline is not None and state.ended_at is not None
    if not known or (
        calm and (state.ended_at or 0) > (state.deadline or 0) + DEADLINE_SLACK_SECONDS
    ):
        _wrong(cluster, state, f"ended at {state.ended_at}, its deadline was {state.deadline}")


def _judge_published(cluster: Cluster, work: Workload, state: RunState) -> None:
    published = cluster.results.get(work.run_id, [])
    if not published:
        _wrong(cluster, state, "it was not published")
        return
    latest = published[-1]
    if latest.is_err is (state.status is RunStatus.COMPLETED):
        _wrong(cluster, state, f"it was published as {latest}")
    if _may_mix_items(cluster, work):
        return
    if state.status is RunStatus.COMPLETED and latest.return_value != expect(work).result:
        _wrong(
            cluster,
            state,
            f"its result is {latest.return_value}, it should be {expect(work).result}",
        )


def _may_mix_items(cluster: Cluster, work: Workload) -> bool:
    """Whether a failover may have left items of a failed try where those of a later one were.

    They are stored before their step ends; its end counts them, but does not look at them.
    """
    streams = any(
        step.task == Work.STREAM and script.fails
        for step, script in zip(work.plan.steps, work.scripts, strict=True)
    )
    return streams and cluster.dice.thrown[Fault.FAILOVER] > 0


def _wrong(cluster: Cluster, state: RunState, why: str) -> None:
    cluster.store.ledger.violated(
        "A run ends as its steps say", f"{state.run_id} is {state.status}: {why}"
    )
