"""The version of the application before the step ``add_noted`` was written."""

from taskiq_flow import PipelineMiddleware
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings
from tests.integration.apps.steps import register

broker = make_broker(AppSettings.from_env())
broker.add_middlewares(PipelineMiddleware())
register(broker, without="add_noted")
