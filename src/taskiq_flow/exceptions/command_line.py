"""What the command line was not given, or cannot use."""

from __future__ import annotations

import reprlib

from taskiq_flow.exceptions.root import ConfigurationError, TaskiqFlowError


class NoStoreGivenError(ConfigurationError):
    """The command line was asked about runs, and not told where they live."""

    def __init__(self) -> None:
        super().__init__(
            "No store was named, and no runs were started in this directory; give --store URL or "
            "set TASKIQ_FLOW_STORE_URL, for example redis://localhost:6379/0 or sqlite:///runs.db."
        )


class NoSuchFileError(ConfigurationError):
    """The command line was asked about runs in a file that is not there."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"There is no file {path!r}, so no runs either: look at the path that --store or "
            "TASKIQ_FLOW_STORE_URL gives. The first run makes a new store, and so does "
            "`taskiq-flow migrate`."
        )


class TargetError(ConfigurationError):
    """What the command line was to run or draw could not be had."""

    def __init__(self, target: str, why: str, fix: str) -> None:
        self.target, self.why, self.fix = target, why, fix
        super().__init__(f"{target!r} cannot be used: {why}. {fix}")


class BrokerUnavailableError(TaskiqFlowError, ConnectionError):
    """A broker did not start: its server does not answer, or refuses."""

    def __init__(self, broker: str, why: str) -> None:
        self.broker, self.why = broker, why
        super().__init__(
            f"The broker {broker} cannot be used ({why}); check its address, and that its server "
            f"runs."
        )


class BadInputError(ConfigurationError):
    """An input was given on the command line in a form that cannot be read."""

    def __init__(self, option: str, text: str, rule: str) -> None:
        self.option, self.text = option, text
        given = f"{option} {reprlib.repr(text)}" if text else option
        super().__init__(f"{given} {rule}.")
