"""An application that is measured and traced; its spans go to files, one of each process."""

import os
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from taskiq import AsyncBroker

from taskiq_flow import PipelineMiddleware, limit, pipeline_task
from taskiq_flow.metrics import MetricsMiddleware
from taskiq_flow.tracing import TracingMiddleware
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings
from tests.integration.apps.steps import journal, register

RATE = 20


async def rated(number: int) -> int:
    journal.write("rated", "ran", number)
    return number


def register_rated(broker: AsyncBroker) -> None:
    limited = pipeline_task(limit=limit(key="rated", rate=f"{RATE}/s", burst=1))
    broker.register_task(limited(rated), task_name="rated")


class Lines(SpanExporter):
    """Appends spans to a file of this process, as JSON, one a line."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / f"spans-{os.getpid()}.jsonl"

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self.file.open("a") as file:
            file.writelines(f"{span.to_json(indent=None)}\n" for span in spans)
        return SpanExportResult.SUCCESS


def provider(directory: Path) -> TracerProvider:
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(Lines(directory)))
    return made


if "FLOW_APP_METRICS_PORT" in os.environ:  # a worker; clients import the rest
    broker = make_broker(AppSettings.from_env())
    broker.add_middlewares(
        TracingMiddleware(provider(journal.path.parent)),
        MetricsMiddleware(port=int(os.environ["FLOW_APP_METRICS_PORT"])),
        PipelineMiddleware(),
    )
    register(broker)
    register_rated(broker)
