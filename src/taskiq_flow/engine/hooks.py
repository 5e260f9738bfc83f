"""Which middlewares of a broker override which hooks; looked up once, not with every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from taskiq import AsyncBroker, TaskiqMiddleware

from taskiq_flow.model.state import new_dict


@dataclass(slots=True)
class Hooks:
    """The middlewares of a broker by the hooks that they override, without the engine's own."""

    broker: AsyncBroker
    own: tuple[type[TaskiqMiddleware], ...] = ()
    _found: dict[str, Sequence[TaskiqMiddleware]] = field(default_factory=new_dict)
    _among: int = 0

    def of(self, name: str) -> Sequence[TaskiqMiddleware]:
        """Those that override a hook, in the broker's order."""
        middlewares = self.broker.middlewares
        if self._among != len(middlewares):
            self._found.clear()
            self._among = len(middlewares)
        found = self._found.get(name)
        if found is None:
            base = getattr(TaskiqMiddleware, name)
            found = self._found[name] = [
                middleware
                for middleware in middlewares
                if getattr(type(middleware), name) is not base
                and not isinstance(middleware, self.own)
            ]
        return found
