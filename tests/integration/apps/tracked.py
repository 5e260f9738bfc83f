"""An application whose workers copy what happens to a storage of their own."""

from taskiq_flow import PipelineMiddleware, PipelineTrackingManager
from taskiq_flow.tracking import RedisPipelineStorage
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings
from tests.integration.apps.steps import register

settings = AppSettings.from_env()
storage = RedisPipelineStorage(settings.broker_url, key_prefix=f"{settings.queue}:tracking:")
broker = make_broker(settings)
broker.add_middlewares(PipelineMiddleware(tracking=PipelineTrackingManager().with_storage(storage)))
register(broker)
