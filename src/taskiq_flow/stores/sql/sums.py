"""What many runs came to together: how they ended, when, and how long their steps took."""

from __future__ import annotations

from typing import Final

from sqlalchemy import TextClause, text

from taskiq_flow.model.records import RunStatus, StepTotal
from taskiq_flow.stores.base import SUMMED_STEPS
from taskiq_flow.stores.sql import schema as s
from taskiq_flow.stores.sql.session import Session
from taskiq_flow.stores.sql.statements import FINAL


def count_ended(
    session: Session, since: float, until: float, buckets: int
) -> list[dict[RunStatus, int]]:
    edges = [since + (until - since) * number / buckets for number in range(buckets + 1)]
    rows = session.rows(ENDED_BETWEEN[session.dialect.name], lows=edges[:-1], highs=edges[1:])
    return [dict(zip(map(RunStatus, FINAL), counts, strict=True)) for counts in rows]


def step_totals(session: Session, newest: int) -> list[StepTotal]:
    statement = STEP_TOTALS[session.dialect.name]
    return [StepTotal(*row) for row in session.rows(statement, newest=newest, most=SUMMED_STEPS)]


# -- the statements


def _counts(namespace: str) -> str:
    return ", ".join(
        f"(SELECT count(*) FROM {s.run.name} WHERE {namespace} = :namespace "  # noqa: S608 - our own names
        f"AND status = '{status}' AND ended_at >= low AND ended_at < high)"
        for status in FINAL
    )


# As many looks into an index as there are counts: to sort all runs into buckets takes ten times as
# long.
ENDED_BETWEEN: Final = {
    "sqlite": text(
        f"""
        SELECT {_counts("namespace")} FROM (
          SELECT a.key AS number, a.value AS low, b.value AS high
          FROM json_each(:lows) AS a JOIN json_each(:highs) AS b ON a.key = b.key
        ) AS bucket ORDER BY number
        """  # noqa: S608 - our own names
    ),
    "postgresql": text(
        f"""
        SELECT {_counts('namespace COLLATE "POSIX"')}
        FROM unnest(CAST(:lows AS float8[]), CAST(:highs AS float8[]))
          WITH ORDINALITY AS bucket(low, high, number)
        ORDER BY number
        """  # noqa: S608 - our own names
    ),
}


def _step_totals(step: str) -> TextClause:
    return text(
        f"""
        WITH newest AS (
          SELECT rid, name, total, ended_at FROM {s.run.name}
          WHERE namespace = :namespace AND ended_at IS NOT NULL
          ORDER BY ended_at DESC LIMIT :newest
        ), few AS (
          SELECT rid, name, sum(total) OVER (ORDER BY ended_at DESC, rid DESC) AS so_far
          FROM newest
        ), ran AS (
          SELECT few.name AS run_name, step.name, step.task,
                 step.ended_at - step.started_at AS took, step.attempt,
                 CASE step.status WHEN 'FAILED' THEN 1 ELSE 0 END AS failed
          FROM few CROSS JOIN {step} AS step
          WHERE step.rid = few.rid AND few.so_far <= :most
          AND step.started_at IS NOT NULL AND step.ended_at IS NOT NULL
        )
        SELECT run_name, name, task, count(*), sum(failed),
               sum(CASE WHEN attempt > failed THEN attempt - failed ELSE 0 END),
               sum(took), max(took)
        FROM ran GROUP BY run_name, name, task
        """  # noqa: S608 - our own names
    )


# The steps of one run after the other, whatever a planner expects: of a number of runs that it is
# not told, PostgreSQL takes a tenth of all there are, and SQLite turns no CROSS JOIN around.
STEP_TOTALS: Final = {
    "sqlite": _step_totals(s.step.name),
    "postgresql": _step_totals(
        f"LATERAL (SELECT * FROM {s.step.name} WHERE rid = few.rid OFFSET 0)"  # noqa: S608 - our own names
    ),
}
