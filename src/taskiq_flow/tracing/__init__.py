"""Traces of runs for OpenTelemetry: run, steps and attempts, whichever processes they ran in."""

from taskiq_flow.exceptions import MissingExtraError

try:
    from taskiq_flow.tracing.middleware import TracingMiddleware
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("opentelemetry"):
        raise
    raise MissingExtraError("Tracing", "otel", "opentelemetry-sdk") from error

__all__ = ["TracingMiddleware"]
