"""An application whose workers lack the middleware: a mistake that its clients have to notice."""

from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings
from tests.integration.apps.steps import register

broker = make_broker(AppSettings.from_env())
register(broker)
