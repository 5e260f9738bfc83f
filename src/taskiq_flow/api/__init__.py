"""REST, server-sent events and WebSockets for all that the dashboard shows and does."""

from taskiq_flow.exceptions import MissingExtraError

try:
    from taskiq_flow.api.app import PipelineVisualizationAPI, create_visualization_api
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "starlette"):
        raise
    raise MissingExtraError("The API", "fastapi,dashboard", error.name) from error

__all__ = ["PipelineVisualizationAPI", "create_visualization_api"]
