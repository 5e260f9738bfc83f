"""Which middlewares of a broker override which hooks; looked up once, not with every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taskiq import AsyncBroker, TaskiqMiddleware

from taskiq_flow.model.state import new_dict

if TYPE_CHECKING:
    from taskiq_flow.engine.runtime import Runtime


class StepMiddleware(TaskiqMiddleware):
    """A middleware of ours that hears of steps, and not of the messages that announce them.

    So it costs an in-memory broker no messages; ``join`` is called once there is an engine.
    """

    def join(self, runtime: Runtime) -> None:
        """Begin to hear of the runs of an engine; may be called again."""


@dataclass(slots=True)
class Hooks:
    """The middlewares of a broker by the hooks that they override, without the engine's own."""

    broker: AsyncBroker
    own: tuple[type[TaskiqMiddleware], ...] = ()
    _found: dict[str, Sequence[TaskiqMiddleware]] = field(default_factory=new_dict)
    _among: int = 0
    _around: bool | None = None
    _meet_messages: bool | None = None

    @property
    def around(self) -> bool:
        """Whether any of them wants to see each call, and not only those that failed."""
        if self._among != len(self.broker.middlewares):
            self._look_again()
        if self._around is None:
            seen = [self.of(name) for name in ("pre_execute", "post_execute", "post_save")]
            self._around = any(seen)
        return self._around

    @property
    def meet_messages(self) -> bool:
        """Whether one of them is to hear of the engine's own messages, so they must be real."""
        if self._among != len(self.broker.middlewares):
            self._look_again()
        if self._meet_messages is None:
            seen = (*self.of("pre_execute"), *self.of("post_execute"))
            of_steps = [isinstance(middleware, StepMiddleware) for middleware in seen]
            self._meet_messages = self.see_departures or not all(of_steps)
        return self._meet_messages

    @property
    def see_departures(self) -> bool:
        """Whether one sees messages leave: it may mark each with its caller's trace.

        One message for several callers would be marked for one of them.
        """
        return bool(self.of("pre_send") or self.of("post_send"))

    def _look_again(self) -> None:
        """Forget what was found among other middlewares than the broker has now."""
        self._found.clear()
        self._around = self._meet_messages = None
        self._among = len(self.broker.middlewares)

    def of(self, name: str) -> Sequence[TaskiqMiddleware]:
        """Those that override a hook, in the broker's order."""
        if self._among != len(self.broker.middlewares):
            self._look_again()
        found = self._found.get(name)
        if found is None:
            base = getattr(TaskiqMiddleware, name)
            found = self._found[name] = [
                middleware
                for middleware in self.broker.middlewares
                if getattr(type(middleware), name) is not base
                and not isinstance(middleware, self.own)
            ]
        return found
