"""Optional middlewares, and what belongs to them."""

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
