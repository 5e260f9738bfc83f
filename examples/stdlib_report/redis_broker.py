"""The broker of workers on Redis, at REDIS_URL; runs live in the same Redis.

taskiq worker examples.stdlib_report.redis_broker:broker examples.stdlib_report.tasks
"""

from __future__ import annotations

import os

from taskiq import async_shared_broker
from taskiq_redis import RedisStreamBroker

from taskiq_flow import PipelineMiddleware

URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")

broker = RedisStreamBroker(URL)
broker.add_middlewares(PipelineMiddleware(lease_seconds=2))
async_shared_broker.default_broker(broker)
