"""What is measured, by the names that the documentation lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeAlias

from taskiq_flow.metrics.instruments import Kind, Metric
from taskiq_flow.metrics.process import ProcessUsage

RUN_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
STEP_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

Reader: TypeAlias = Callable[["MetricsCollector"], Awaitable[None]]


class MetricsCollector:
    """The numbers of this process; ``MetricsCollector()`` is always the same one.

    Needs no extra: what reads it does. Label values are the names of pipelines, steps, tasks and
    queues, never ids, and of each metric there are at most `MOST_SERIES` series.
    """

    _of_process: ClassVar[MetricsCollector | None] = None

    metrics: tuple[Metric, ...]
    readers: list[Reader]
    """Are asked every 10 s to set gauges from what they know, a scheduler's for example."""

    def __new__(cls) -> MetricsCollector:
        """Give the one of this process."""
        if cls._of_process is None:
            cls._of_process = cls.separate()
        return cls._of_process

    @classmethod
    def separate(cls) -> MetricsCollector:
        """Make one that shares nothing with that of the process."""
        collector = super().__new__(cls)
        collector._make()
        return collector

    def _make(self) -> None:
        made: list[Metric] = []

        def metric(
            kind: Kind, name: str, text: str, *labels: str, bounds: tuple[float, ...] = ()
        ) -> Metric:
            made.append(Metric(f"taskiq_flow_{name}", text, kind, labels, bounds))
            return made[-1]

        counter, gauge, histogram = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
        # Of the whole installation, from the event feed.
        self.pipeline_starts = metric(
            counter, "pipeline_starts_total", "Runs that have begun", "pipeline"
        )
        self.pipeline_executions = metric(
            counter, "pipeline_executions_total", "Runs that have ended", "pipeline", "status"
        )
        self.pipeline_duration = metric(
            histogram, "pipeline_duration_seconds", "From the first step of a run to its end",
            "pipeline", bounds=RUN_BOUNDS,
        )  # fmt: skip
        self.pipeline_steps = metric(
            counter, "pipeline_steps_total", "Steps that have ended", "pipeline", "status"
        )
        self.step_duration = metric(
            histogram, "step_duration_seconds", "From a step's first try to its end",
            "pipeline", "step", bounds=STEP_BOUNDS,
        )  # fmt: skip
        self.lost_leases = metric(
            counter, "lost_leases_total", "Steps whose worker died or fell silent", "task_name"
        )
        # Of the whole installation, read from the store from time to time.
        self.active_pipelines = metric(gauge, "active_pipelines", "Runs that are going")
        self.queue_depth = metric(gauge, "queue_depth", "Runs that no worker has begun")
        self.dead_letters = metric(gauge, "dlq_queue_size", "Failed runs that are kept")
        self.workers = metric(gauge, "workers", "Worker processes that are alive")
        self.scheduled_jobs = metric(gauge, "scheduled_jobs", "Schedules that there are", "state")
        self.scheduled_ticks = metric(
            gauge, "scheduled_ticks", "What became of the ticks of all schedules", "outcome"
        )
        self.schedule_lateness = metric(
            gauge, "schedule_lateness_seconds", "How long the most overdue tick has been due"
        )
        # Of this process alone.
        self.task_executions = metric(
            counter, "task_executions_total", "Calls of tasks by this process",
            "task_name", "status", "queue",
        )  # fmt: skip
        self.task_duration = metric(
            histogram, "task_duration_seconds", "How long a call of a task took",
            "task_name", bounds=STEP_BOUNDS,
        )  # fmt: skip
        self.task_retries = metric(
            counter, "task_retry_attempts_total", "Calls that were not the first try", "task_name"
        )
        self.websocket_messages = metric(
            counter, "websocket_messages_total", "Messages sent to WebSockets"
        )
        self.sse_events = metric(
            counter, "sse_events_sent_total", "Events sent to streams of server-sent events"
        )
        self.worker_cpu = metric(
            gauge, "worker_cpu_usage_percent", "Of one core, since the reading before"
        )
        self.worker_memory = metric(
            gauge, "worker_memory_usage_bytes", "Resident memory of this process"
        )
        self._usage = ProcessUsage()
        self.metrics, self.readers = tuple(made), []
        for unlabelled in made:
            if not unlabelled.labels and unlabelled.kind is not histogram:
                unlabelled.set(0.0)

    def read(self) -> tuple[Metric, ...]:
        """All metrics, those of the process itself as of now."""
        self.worker_cpu.set(self._usage.cpu_percent())
        self.worker_memory.set(self._usage.memory_bytes())
        return self.metrics
