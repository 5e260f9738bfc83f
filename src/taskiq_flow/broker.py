"""Redis brokers under the names of the quickstart; any other broker of Taskiq does as well."""

from __future__ import annotations

from typing import Any

from taskiq_flow.exceptions import MissingExtraError

try:
    import taskiq_redis
except ModuleNotFoundError as error:
    raise MissingExtraError("A Redis broker", "redis", "taskiq-redis") from error


class RedisStreamBroker(taskiq_redis.RedisStreamBroker):
    """`taskiq_redis.RedisStreamBroker`, whose address may also be called ``redis_url``."""

    def __init__(self, url: str | None = None, *, redis_url: str | None = None, **options: Any):
        address = url or redis_url
        if address is None:
            raise TypeError("RedisStreamBroker() needs an address: redis://host:port/db")
        super().__init__(address, **options)
