"""The errors of background tasks, under the root of all errors of Taskiq-Flow."""

from __future__ import annotations

from taskiq_flow.exceptions import ConfigurationError, NotShippedError, TaskiqFlowError


class QueueFullError(TaskiqFlowError, RuntimeError):
    """A task was refused because its queue holds as many waiting tasks as it may."""

    def __init__(self, queue: str, max_size: int, task_id: str | None = None) -> None:
        self.queue, self.max_size, self.task_id = queue, max_size, task_id
        super().__init__(
            f"Queue {queue!r} is full: {max_size} tasks wait in it already. "
            f"Try again later, or raise its max_size."
        )


class TaskArgumentError(ConfigurationError):
    """An argument of a task cannot be stored; nothing was."""

    def __init__(self, func_name: str, parameter: str, why: str) -> None:
        self.func_name, self.parameter, self.why = func_name, parameter, why
        super().__init__(f"Argument {parameter!r} of task {func_name!r} cannot be stored: {why}")


class UnreadableArgumentsError(TaskiqFlowError):
    """Stored arguments cannot be decrypted with the keys that this process has."""

    def __init__(self, func_name: str) -> None:
        self.func_name = func_name
        super().__init__(
            f"The arguments of task {func_name!r} were encrypted with another key; add that key "
            f"to encrypt_args_key=[new, old] and retry the task."
        )


class TaskOptionError(ConfigurationError):
    """A task was given an option that cannot work."""

    def __init__(self, func_name: str, option: str, value: object, rule: str) -> None:
        self.func_name, self.option, self.value, self.rule = func_name, option, value, rule
        super().__init__(f"Task {func_name!r}: {option}={value!r} cannot be; {rule}.")


class ManagerOptionError(ConfigurationError):
    """A task manager was given an option that cannot work."""

    def __init__(self, option: str, value: object, rule: str) -> None:
        self.option, self.value = option, value
        super().__init__(f"{option}={value!r} {rule}.")


class UnnamedTaskError(ConfigurationError):
    """A function was given that no other process could find, to be run in one."""

    def __init__(self, func_name: str) -> None:
        self.func_name = func_name
        super().__init__(
            f"Task {func_name!r} cannot be found by another process: lambdas, functions in "
            f"functions and methods of objects have no name of their own. Give a function of a "
            f"module, or register this one with @task_manager.task() where every process does."
        )


class QueueConfigError(ConfigurationError):
    """A queue was given a bound that cannot work, or there is no such queue."""

    def __init__(self, queue: str, why: str) -> None:
        self.queue, self.why = queue, why
        super().__init__(f"Queue {queue!r}: {why}.")


class TaskNotStoredError(TaskiqFlowError, RuntimeError):
    """A task could not be stored, so it will not be run, unless only the store's answer is late."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"The task could not be stored: {why}")


class TaskInterruptedError(TaskiqFlowError):
    """The application stopped while a task ran that may not be run twice."""

    def __init__(self, func_name: str) -> None:
        self.func_name = func_name
        super().__init__(
            f"Task {func_name!r} was running when its process stopped; with "
            f"requeue_on_interrupt=True it would be run again."
        )


class TaskExitedError(TaskiqFlowError):
    """A task called ``sys.exit()``, which ends the task and nothing else."""

    def __init__(self, func_name: str, code: object) -> None:
        self.func_name, self.code = func_name, code
        super().__init__(f"Task {func_name!r} called sys.exit({code!r}).")


class TaskTimeoutError(TaskiqFlowError, TimeoutError):
    """An attempt of a task took longer than it may."""

    def __init__(self, func_name: str, seconds: float) -> None:
        self.func_name, self.seconds = func_name, seconds
        super().__init__(f"Task {func_name!r} took longer than its timeout of {seconds:g} s.")


class TaskGoneError(TaskiqFlowError, LookupError):
    """A task is asked for whose function, or whose record, is not here (any more)."""

    def __init__(self, what: str, why: str) -> None:
        self.what, self.why = what, why
        super().__init__(f"Task {what!r}: {why}.")


class UnknownTaskError(TaskGoneError):
    """No task has this id, or its record has gone with its time."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id, "there is none of this id, or its time was over")


class UnknownQueueError(QueueConfigError):
    """No queue has this name."""

    def __init__(self, queue: str, known: str) -> None:
        super().__init__(queue, f"there is none; known are {known}")


class TaskStateError(TaskiqFlowError):
    """What was asked of a task cannot be done in the state in which it is."""

    def __init__(self, task_id: str, status: str, why: str) -> None:
        self.task_id, self.status = task_id, status
        super().__init__(f"Task {task_id} is {status}: {why}.")


class WindowError(ConfigurationError):
    """A stretch of time was not understood."""

    def __init__(self, since: str) -> None:
        self.since = since
        super().__init__(f"since={since!r} is no stretch of time; write 12h, 7d or all.")


class AdminPathError(ConfigurationError):
    """The routes of tasks were to stand at a path that is none."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"path={path!r} cannot be; write it like '/tasks' or '/admin/tasks'.")


class AuthOptionError(ConfigurationError):
    """``TaskAdmin(auth=…)`` was given something that says not who may come in."""

    def __init__(self, auth: object) -> None:
        super().__init__(
            f"auth= takes (name, password), a list of those (a third part is the role: viewer, "
            f"operator, admin), a TaskAuthBackend, a Security, or False for no login at all; "
            f"a {type(auth).__name__} came."
        )


class LoggerOptionError(ConfigurationError):
    """An observer was given an option that it does not know."""

    def __init__(self, option: str, value: object, known: str) -> None:
        self.option, self.value = option, value
        super().__init__(f"{option}={value!r} is not known here; use one of {known}.")


class BackendOptionError(ConfigurationError):
    """A documented option of a backend that means nothing to our stores."""

    def __init__(self, backend: str, option: str, fix: str) -> None:
        self.backend, self.option = backend, option
        super().__init__(f"{backend}({option}=…) cannot be used; {fix}.")


__all__ = [
    "AdminPathError",
    "AuthOptionError",
    "BackendOptionError",
    "LoggerOptionError",
    "ManagerOptionError",
    "NotShippedError",
    "QueueFullError",
    "TaskArgumentError",
    "TaskStateError",
    "UnknownQueueError",
    "UnknownTaskError",
    "UnnamedTaskError",
    "UnreadableArgumentsError",
    "WindowError",
]
