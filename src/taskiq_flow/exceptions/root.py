"""The roots of the tree, and what is wrong with an installation."""

from __future__ import annotations

from typing import Any

from taskiq.exceptions import TaskiqError


class TaskiqFlowError(TaskiqError):
    """Root of all errors that Taskiq-Flow raises on purpose."""

    __module__ = "taskiq_flow.exceptions"

    def __init_subclass__(cls, **facts: Any) -> None:
        super().__init_subclass__(**facts)
        # Where it is imported from: tracebacks, pickles and stored policies name it so.
        if cls.__module__.startswith(f"{TaskiqFlowError.__module__}."):
            cls.__module__ = TaskiqFlowError.__module__

    def __init__(self, message: str) -> None:
        # Taskiq's own errors are keyword records with a template; ours write their sentence.
        self.message = message
        Exception.__init__(self, message)

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"


class ConfigurationError(TaskiqFlowError, ValueError):
    """Something was set up in a way that cannot work; nothing was stored or sent."""

    # Spelled out here and below: for a type checker Taskiq's errors are records without it.
    def __init__(self, message: str) -> None:
        super().__init__(message)


class MissingExtraError(ConfigurationError, ImportError):
    """A part of Taskiq-Flow was used whose optional packages are not installed."""

    def __init__(self, feature: str, extra: str, package: str) -> None:
        self.feature, self.extra, self.package = feature, extra, package
        super().__init__(
            f"{feature} needs the package {package!r}, which is not installed: "
            f"pip install 'taskiq-flow[{extra}]'."
        )


class NotShippedError(ConfigurationError, ImportError):
    """A documented name of another system was imported that Taskiq-Flow replaces."""

    def __init__(self, name: str, instead: str) -> None:
        self.name, self.instead = name, instead
        super().__init__(f"{name} is not part of Taskiq-Flow; use {instead}.")


class UnsupportedHostError(ConfigurationError):
    """The installed Taskiq lacks something that the engine leans on."""

    def __init__(self, what: str, fix: str) -> None:
        self.what, self.fix = what, fix
        super().__init__(f"This Taskiq cannot run pipelines: {what}. {fix}")
