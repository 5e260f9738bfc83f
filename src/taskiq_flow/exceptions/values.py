"""Values and errors that have no stored form."""

from __future__ import annotations

from taskiq_flow.exceptions.root import ConfigurationError, TaskiqFlowError


class UnserializableValueError(ConfigurationError):
    """A step was given, or returned, a value that cannot be stored."""

    def __init__(self, where: str, path: str, type_name: str, why: str) -> None:
        self.where, self.path, self.type_name, self.why = where, path, type_name, why
        super().__init__(f"The {where} cannot be stored: {path} is a {type_name}; {why}.")


class PayloadTooLargeError(ConfigurationError):
    """A value is larger, once encoded, than a value may be."""

    def __init__(self, where: str, size: int, limit: int, fix: str) -> None:
        self.where, self.size, self.limit, self.fix = where, size, limit, fix
        super().__init__(f"The {where} takes {size:,} bytes; the limit is {limit:,}. {fix}.")


class UndecodableValueError(TaskiqFlowError, ValueError):
    """Stored bytes cannot be turned back into the value that was asked for."""

    def __init__(self, wanted: str, why: str) -> None:
        self.wanted, self.why = wanted, why
        super().__init__(f"A stored value cannot be read as {wanted}: {why}.")


class CodecRegistrationError(ConfigurationError):
    """A codec or an exception type was registered that could not be told apart, or not rebuilt."""

    def __init__(self, type_name: str, why: str) -> None:
        self.type_name, self.why = type_name, why
        super().__init__(f"{type_name} cannot be registered: {why}.")
