"""The worker's side of the execution guide: its tasks, and its middleware for tracing."""

from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings
from tests.seeds.execution import TRACING, make_guide

broker = make_broker(AppSettings.from_env())
make_guide(broker).define(TRACING)
