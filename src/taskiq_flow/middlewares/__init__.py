"""Optional middlewares, and what belongs to them."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading

if TYPE_CHECKING:
    from taskiq_flow.engine.dead_letters import DeadLetter, DeadLetterDetails, DeadLetters
    from taskiq_flow.middlewares.cache import CacheMiddleware
    from taskiq_flow.middlewares.dead_letters import DLQManager
    from taskiq_flow.middlewares.retry import (
        PipelineRetryMiddleware,
        RetryMiddleware,
        calculate_exponential_backoff_delay,
    )
    from taskiq_flow.middlewares.storage import StorageMiddleware

__all__ = [
    "CacheMiddleware",
    "DLQManager",
    "DeadLetter",
    "DeadLetterDetails",
    "DeadLetters",
    "PipelineRetryMiddleware",
    "RetryMiddleware",
    "StorageMiddleware",
    "calculate_exponential_backoff_delay",
]

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "CacheMiddleware": "taskiq_flow.middlewares.cache",
            "DLQManager": "taskiq_flow.middlewares.dead_letters",
            "DeadLetter": "taskiq_flow.engine.dead_letters",
            "DeadLetterDetails": "taskiq_flow.engine.dead_letters",
            "DeadLetters": "taskiq_flow.engine.dead_letters",
            "PipelineRetryMiddleware": "taskiq_flow.middlewares.retry",
            "RetryMiddleware": "taskiq_flow.middlewares.retry",
            "StorageMiddleware": "taskiq_flow.middlewares.storage",
            "calculate_exponential_backoff_delay": "taskiq_flow.middlewares.retry",
        },
    )
