"""What a broker's middlewares say of all tasks on it, where nothing nearer does."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from taskiq import AsyncBroker

from taskiq_flow.model.retry import RetryPolicy

default_retries: WeakKeyDictionary[AsyncBroker, RetryPolicy] = WeakKeyDictionary()
"""The retry policy of steps of pipelines that have none themselves."""
