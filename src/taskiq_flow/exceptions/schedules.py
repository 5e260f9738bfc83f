"""Schedules that cannot be, and ticks that have fired."""

from __future__ import annotations

from taskiq_flow.exceptions.root import ConfigurationError, TaskiqFlowError


class ScheduleError(ConfigurationError):
    """A schedule cannot be; nothing was stored."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"The schedule's {name} {value!r} {rule}.")


class JobNotFoundError(TaskiqFlowError, LookupError):
    """There is no scheduled job of this id."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"There is no scheduled job {job_id!r}; `list_jobs()` shows those that there are "
            f"(a job that is to run once goes when it has run)."
        )


class DuplicateJobError(ConfigurationError):
    """A job of this id is scheduled already, and was not to be replaced."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"A job {job_id!r} is scheduled already; choose another job_id, or let "
            f"replace_existing=True change it."
        )


class DuplicateTickError(ConfigurationError):
    """A schedule's tick has fired before; the run was not created again."""

    def __init__(self, tick: str) -> None:
        self.tick = tick
        super().__init__(f"The tick {tick!r} has fired before.")
