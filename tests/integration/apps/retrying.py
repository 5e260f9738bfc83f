"""An application whose plain tasks are taken over by the engine when they fail."""

from taskiq_flow import PipelineMiddleware
from taskiq_flow.middlewares.retry import RetryMiddleware
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.retried import register_retried
from tests.integration.apps.settings import AppSettings
from tests.integration.apps.steps import register

broker = make_broker(AppSettings.from_env())
broker.add_middlewares(PipelineMiddleware(), RetryMiddleware(max_retries=0, dlq_queue="failed"))
register(broker)
register_retried(broker)
