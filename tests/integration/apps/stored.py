"""An application whose workers copy results to a storage, and keep those that ask for it."""

from taskiq_flow import CacheMiddleware, PipelineMiddleware, StorageMiddleware
from taskiq_flow.cache import RedisCacheAdapter
from taskiq_flow.storage import RedisStorageAdapter
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings
from tests.integration.apps.steps import journal, register

settings = AppSettings.from_env()
prefix = f"{settings.queue}:"
storage = RedisStorageAdapter(settings.broker_url, 600, key_prefix=f"{prefix}storage:")
cache = RedisCacheAdapter(settings.broker_url, key_prefix=f"{prefix}cache:")
broker = make_broker(settings)
broker.add_middlewares(StorageMiddleware(storage), PipelineMiddleware(), CacheMiddleware(cache))
register(broker)


@broker.task(task_name="squared", cache_ttl=60)
async def squared(number: int) -> int:
    """Leave a note of each time that it really runs."""
    journal.write("squared", "ran", number)
    return number * number
