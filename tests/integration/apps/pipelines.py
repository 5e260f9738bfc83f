"""An application whose steps return pipelines."""

from taskiq_flow import PipelineMiddleware
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.continuing import register_continuing
from tests.integration.apps.settings import AppSettings
from tests.integration.apps.steps import register

broker = make_broker(AppSettings.from_env())
broker.add_middlewares(PipelineMiddleware())
register(broker)
register_continuing(broker)
