"""Who may not do what they asked for."""

from __future__ import annotations

import reprlib

from taskiq_flow.exceptions.root import ConfigurationError, TaskiqFlowError


class SecurityError(TaskiqFlowError):
    """Somebody may not do what they asked for."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class NotAuthenticatedError(SecurityError):
    """Nobody is known to be asking: no valid token, key or session came along."""

    def __init__(self, why: str = "no valid token, key or session came with it") -> None:
        self.why = why
        super().__init__(f"This needs a login: {why}.")


class NotAllowedError(SecurityError, PermissionError):
    """Somebody is known, and may not do this."""

    def __init__(self, name: str, what: str, why: str) -> None:
        self.name, self.what = name, what
        super().__init__(f"{name} may not {what}: {why}.")


class TooManyAttemptsError(SecurityError):
    """Somebody asked too often."""

    def __init__(self, what: str, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"Too many {what}; try again in {retry_after_seconds:.0f} s.")


class SecurityOptionError(ConfigurationError):
    """An option of the security settings cannot work."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"{name}={reprlib.repr(value)} {rule}.")
