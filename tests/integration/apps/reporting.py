"""An application whose results are kept without pickle, and whose tasks say how far they are."""

from taskiq_flow import PipelineMiddleware
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.reports import with_results
from tests.integration.apps.settings import AppSettings

settings = AppSettings.from_env()
broker = with_results(make_broker(settings), settings)
broker.add_middlewares(PipelineMiddleware())
