"""The dashboard: pages to see and steer runs, served alone or mounted in another app."""

from taskiq_flow.exceptions import MissingExtraError

try:
    from taskiq_flow.dashboard.app import create_app
except ModuleNotFoundError as error:
    raise MissingExtraError("The dashboard", "dashboard", error.name or "starlette") from error

__all__ = ["create_app"]
