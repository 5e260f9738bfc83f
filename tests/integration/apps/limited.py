"""An application with bounded steps, whose workers may be told how many to work on at once."""

import os
from typing import Any

from taskiq_flow import Continue, Pipeline, PipelineMiddleware
from taskiq_flow.optimization.parallel import set_max_parallel_tasks
from tests.integration.apps.bounded import register_bounded
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings
from tests.integration.apps.steps import register

broker = make_broker(AppSettings.from_env())
broker.add_middlewares(PipelineMiddleware())
register(broker)
register_bounded(broker)
most = os.environ.get("FLOW_APP_MOST")
set_max_parallel_tasks(int(most) if most else None)


def goes_on(count: int) -> Any:
    """Ask for another pipeline, from whichever process runs it."""
    square, total = broker.find_task("square"), broker.find_task("total")
    return Continue(Pipeline(broker).map(square).reduce(total), list(range(count)))


broker.register_task(goes_on, task_name="goes_on")
