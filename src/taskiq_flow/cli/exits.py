"""What the command's exit codes mean, and which error has which."""

from __future__ import annotations

from enum import IntEnum

from taskiq_flow.exceptions import (
    AmbiguousRunError,
    ConfigurationError,
    DuplicatePipelineError,
    DuplicateTickError,
    NotADeadLetterError,
    NothingToRunError,
    OperationError,
    RunEndedError,
    RunNotEndedError,
    RunNotFoundError,
    StorageUnavailableError,
    StoreError,
    TaskiqFlowError,
    TrackingQueryError,
    UnknownStepError,
)


class Exit(IntEnum):
    """The exit codes of ``taskiq-flow``."""

    OK = 0
    RUN_FAILED = 1  # the run failed or was cancelled; doctor found a problem
    USAGE = 2  # an argument, a setting or a pipeline cannot work; an extra is missing
    NOT_FOUND = 3  # no such run, step, schedule, dead letter, file or module
    UNREACHABLE = 4  # the store or the broker does not answer, or has another format
    REFUSED = 5  # not possible as things stand: the run has (not) ended, one of its name goes on
    BUG = 70  # an error that should not happen; --debug shows it whole
    TIMEOUT = 124  # the waiting is over, the run goes on
    INTERRUPTED = 130  # Ctrl-C
    TERMINATED = 143  # SIGTERM


_KINDS: tuple[tuple[type[BaseException], Exit], ...] = (
    (RunNotFoundError, Exit.NOT_FOUND),
    (UnknownStepError, Exit.NOT_FOUND),
    (AmbiguousRunError, Exit.NOT_FOUND),
    (RunNotEndedError, Exit.REFUSED),
    (RunEndedError, Exit.REFUSED),
    (NotADeadLetterError, Exit.REFUSED),
    (DuplicatePipelineError, Exit.REFUSED),
    (DuplicateTickError, Exit.REFUSED),
    (NothingToRunError, Exit.REFUSED),
    (StoreError, Exit.UNREACHABLE),
    (StorageUnavailableError, Exit.UNREACHABLE),
    (ConnectionError, Exit.UNREACHABLE),
    (ConfigurationError, Exit.USAGE),
    (TrackingQueryError, Exit.USAGE),
    (OperationError, Exit.REFUSED),
    (LookupError, Exit.NOT_FOUND),
    (TaskiqFlowError, Exit.REFUSED),
)


def exit_of(error: BaseException) -> Exit:
    """The exit code for an error that ends a command."""
    own = isinstance(error, TaskiqFlowError)
    for kind, code in _KINDS:
        if isinstance(error, kind) and (own or kind is ConnectionError):
            return code
    return Exit.BUG
