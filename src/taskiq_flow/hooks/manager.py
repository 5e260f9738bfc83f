"""Who is told of events, and of which."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from taskiq_flow.exceptions import ConfigurationError, InvalidTaskOptionError
from taskiq_flow.hooks.events import HookEvent, HookEventType
from taskiq_flow.model.numbers import is_number
from taskiq_flow.observers import call_hook

logger = logging.getLogger("taskiq_flow.hooks")

Callback: TypeAlias = Callable[[Any], Any]
"""Takes an event; sync (then it runs in a thread) or async."""

FilterFunction: TypeAlias = Callable[[Any], bool]


class EventFilter:
    """Lets an event pass whose run and type are both among those named; None names all."""

    def __init__(
        self,
        pipeline_ids: Iterable[str] | None = None,
        event_types: Iterable[HookEventType | str] | None = None,
    ) -> None:
        """Name the ids (or names) of runs, and the types of events, that are to pass.

        Raises:
            ValueError: There is no such type of events.
        """
        self.pipeline_ids = None if pipeline_ids is None else frozenset(pipeline_ids)
        self.event_types = (
            None if event_types is None else frozenset(HookEventType(each) for each in event_types)
        )

    def should_emit(self, event: HookEvent) -> bool:
        """Whether the event passes."""
        ids, types = self.pipeline_ids, self.event_types
        right_run = ids is None or event.pipeline_id in ids or event.run_id in ids
        return right_run and (types is None or event.type in types)


class _Registered(NamedTuple):
    type: HookEventType | None
    callback: Callback
    passes: FilterFunction | None


class HookManager:
    """Tells hooks of the runs that it is given to: ``pipeline.with_hooks(manager)``.

    All hooks hear of an event at the same time, and of a run's events in their order. What a hook
    raises is logged, and one that takes longer than ``timeout_seconds`` is given up; neither harms
    or slows a run.
    """

    def __init__(self, *, timeout_seconds: float = 30.0) -> None:
        if not is_number(timeout_seconds) or timeout_seconds <= 0:
            rule = "must be a positive number of seconds"
            raise InvalidTaskOptionError("timeout_seconds", timeout_seconds, rule)
        self.timeout_seconds = timeout_seconds
        self._hooks: list[object] = []
        self._filters: list[EventFilter] = []
        self._registered: list[_Registered] = []

    def add_hook(self, hook: object) -> HookManager:
        """Tell an object that has some of the methods ``on_pipeline_start``, ``on_step_start``,
        ``on_step_complete``, ``on_step_error``, ``on_pipeline_complete``, ``on_pipeline_error``
        or ``on_event``; each takes the event, and may be sync or async.

        Raises:
            ConfigurationError: It has none of them, or is a class.
        """
        if isinstance(hook, type):
            raise ConfigurationError(f"{hook!r} is a class; add an object of it.")
        if not any(callable(getattr(hook, name, None)) for name in _METHODS):
            raise ConfigurationError(
                f"{hook!r} is no hook; it needs at least one of {', '.join(_METHODS)}."
            )
        self._hooks.append(hook)
        return self

    def remove_hook(self, hook: object) -> bool:
        """Tell an object no more; False when it was not told."""
        known = hook in self._hooks
        if known:
            self._hooks.remove(hook)
        return known

    def add_filter(self, passing: EventFilter) -> HookManager:
        """Tell nobody of an event that one of the filters holds back."""
        self._filters.append(passing)
        return self

    def register(
        self,
        event_type: HookEventType | str | None,
        callback: Callback,
        filter_fn: FilterFunction | None = None,
    ) -> HookManager:
        """Call a function for one type of events, or for all (None), if its own filter says so.

        Raises:
            ValueError: There is no such type of events.
        """
        kind = None if event_type is None else HookEventType(event_type)
        self._registered.append(_Registered(kind, callback, filter_fn))
        return self

    def unregister(self, event_type: HookEventType | str | None, callback: Callback) -> bool:
        """Call a function no more; False when it was not registered."""
        kind = None if event_type is None else HookEventType(event_type)
        kept = [r for r in self._registered if (r.type, r.callback) != (kind, callback)]
        found = len(kept) < len(self._registered)
        self._registered = kept
        return found

    async def dispatch(self, event: HookEvent) -> None:
        """Tell everyone of an event, and wait until they have heard it."""
        if all(passing.should_emit(event) for passing in self._filters):
            await asyncio.gather(*(self._call(each, event) for each in self._wanted(event)))

    def _wanted(self, event: HookEvent) -> list[Callback]:
        methods = [
            getattr(hook, name, None)
            for hook in self._hooks
            for name in ("on_event", f"on_{event.type}")
        ]
        return [
            *(method for method in methods if callable(method)),
            *(
                r.callback
                for r in self._registered
                if r.type in (None, event.type) and _lets(r, event)
            ),
        ]

    async def _call(self, callback: Callback, event: HookEvent) -> None:
        try:
            await call_hook(callback, event, timeout_seconds=self.timeout_seconds)
        except Exception:  # foreign code; neither a run nor the other hooks may suffer from it
            logger.exception("A hook failed on %s of run %s", event.type, event.run_id)


_METHODS = (*(f"on_{kind}" for kind in HookEventType), "on_event")


def _lets(registered: _Registered, event: HookEvent) -> bool:
    try:
        return registered.passes is None or bool(registered.passes(event))
    except Exception:  # foreign code, as above
        logger.exception("The filter of a hook failed on %s of run %s", event.type, event.run_id)
        return False
