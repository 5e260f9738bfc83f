"""The worker's side of an ordinary application: a broker, its tasks, and the middleware."""

from taskiq_flow import PipelineMiddleware
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings
from tests.integration.apps.steps import register

broker = make_broker(AppSettings.from_env())
broker.add_middlewares(PipelineMiddleware())
register(broker)
