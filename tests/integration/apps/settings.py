"""What a test tells the processes that it starts: which broker, which store, which journal."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

PREFIX = "FLOW_APP_"


class BrokerKind(StrEnum):
    """The brokers that the engine is proved on, beside those in memory."""

    LIST = "list"
    STREAM = "stream"
    RABBIT = "rabbit"
    NATS = "nats"
    JETSTREAM_PUSH = "jetstream_push"
    JETSTREAM_PULL = "jetstream_pull"


@dataclass(frozen=True)
class AppSettings:
    """One application; its workers and clients agree on all of this.

    ``flow`` are settings of Taskiq-Flow by field name; ``results_url`` is a Redis for results.
    """

    broker: BrokerKind
    broker_url: str
    queue: str
    journal: Path
    results_url: str = ""
    flow: Mapping[str, str | float] = field(default_factory=dict[str, "str | float"])

    def as_env(self) -> dict[str, str]:
        """The variables from which `from_env` makes the same application in another process."""
        own = {name: str(getattr(self, name)) for name in self.__dataclass_fields__}
        del own["flow"]
        flow = {f"TASKIQ_FLOW_{name.upper()}": str(value) for name, value in self.flow.items()}
        return {**{PREFIX + name.upper(): value for name, value in own.items()}, **flow}

    @classmethod
    def from_env(cls) -> "AppSettings":
        """Read what a test has set; Taskiq-Flow reads its own variables itself."""
        names = [name for name in cls.__dataclass_fields__ if name != "flow"]
        told = {name: os.environ[PREFIX + name.upper()] for name in names}
        broker, journal = BrokerKind(told.pop("broker")), Path(told.pop("journal"))
        return cls(broker=broker, journal=journal, **told)
