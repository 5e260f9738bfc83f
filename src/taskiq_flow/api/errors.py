"""Says by which status an error of ours is answered."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from taskiq_flow.exceptions import (
    AmbiguousRunError,
    BacklogFullError,
    ConfigurationError,
    DuplicatePipelineError,
    MissingExtraError,
    NotADeadLetterError,
    NotAllowedError,
    NotAuthenticatedError,
    NothingToRunError,
    OperationError,
    PayloadTooLargeError,
    RunEndedError,
    RunNotEndedError,
    StorageUnavailableError,
    StoreUnavailableError,
    TaskiqFlowError,
    TooManyAttemptsError,
    TrackingQueryError,
)

_STATUSES: tuple[tuple[type[BaseException], int], ...] = (
    (NotAuthenticatedError, 401),
    (NotAllowedError, 403),
    (TooManyAttemptsError, 429),
    (StoreUnavailableError, 503),
    (StorageUnavailableError, 503),
    (MissingExtraError, 501),
    (PayloadTooLargeError, 413),
    (RunEndedError, 409),
    (RunNotEndedError, 409),
    (NothingToRunError, 409),
    (DuplicatePipelineError, 409),
    (BacklogFullError, 409),
    (NotADeadLetterError, 409),
    (AmbiguousRunError, 409),
    (OperationError, 400),
    (TrackingQueryError, 400),
    (LookupError, 404),  # runs, steps, schedules, tasks, pipelines that are not there
    (ConfigurationError, 422),
)


def as_http(error: TaskiqFlowError) -> HTTPException:
    """The answer to an error: its own sentence, under the status that fits."""
    status = next((code for kind, code in _STATUSES if isinstance(error, kind)), 400)
    headers: dict[str, str] = {}
    if isinstance(error, TooManyAttemptsError):
        headers["retry-after"] = f"{error.retry_after_seconds:.0f}"
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return HTTPException(status, str(error), headers or None)


class FlowRoute(APIRoute):
    """A route that answers our errors, in whatever app it is mounted."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                response = await handle(request)
            except TaskiqFlowError as error:
                raise as_http(error) from error
            # What is said here is about somebody's runs: no cache keeps it.
            response.headers.setdefault("cache-control", "no-store")
            response.headers.setdefault("x-content-type-options", "nosniff")
            return response

        return answered
