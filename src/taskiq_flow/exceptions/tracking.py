"""Questions about runs that make no sense."""

from __future__ import annotations

from taskiq_flow.exceptions.root import TaskiqFlowError


class TrackingError(TaskiqFlowError):
    """Tracking was used in a way that cannot work."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class NoTrackingStorageError(TrackingError, RuntimeError):
    """Tracking was asked before it was told where to look."""

    def __init__(self) -> None:
        super().__init__(
            "No tracking storage configured; call with_auto_storage(broker) or with_storage(...) "
            "first, or attach the manager with pipeline.with_tracking(manager)."
        )


class TrackingStorageError(TrackingError, TypeError):
    """What was given as a tracking storage or listener lacks what is called on it."""

    def __init__(self, given: object, role: str, lacks: str) -> None:
        self.given, self.lacks = given, lacks
        super().__init__(f"{given!r} cannot be a tracking {role}: it lacks {lacks}.")


class TrackingQueryError(TrackingError, ValueError):
    """A question to the history makes no sense."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"{name}={value!r} {rule}.")
