"""How requests are let in, and errors of the manager are answered."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from fastapi_taskflow.api.schemas import Refused
from fastapi_taskflow.exceptions import (
    QueueFullError,
    TaskGoneError,
    TaskNotStoredError,
    TaskStateError,
    UnknownQueueError,
    UnknownTaskError,
)
from taskiq_flow.exceptions import (
    ConfigurationError,
    NotAllowedError,
    NotAuthenticatedError,
    OperationError,
    StoreUnavailableError,
    TaskiqFlowError,
    TrackingQueryError,
)
from taskiq_flow.security import CSRF_HEADER, Role, Security
from taskiq_flow.security.requests import SAFE_METHODS, is_https
from taskiq_flow.security.security import IDENTITY, SECURITY

STATUSES: tuple[tuple[type[TaskiqFlowError], int], ...] = (
    (NotAuthenticatedError, 401),
    (NotAllowedError, 403),
    (UnknownTaskError, 404),
    (UnknownQueueError, 404),
    (TaskGoneError, 409),
    (TaskStateError, 400),
    (QueueFullError, 429),
    (StoreUnavailableError, 503),
    (TaskNotStoredError, 503),
    (OperationError, 400),
    (TrackingQueryError, 400),
    (ConfigurationError, 400),
)

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refused, "description": words}
    for status, words in (
        (400, "It makes no sense in this state"),
        (401, "Nobody is signed in"),
        (403, "Whoever is signed in may not"),
        (404, "There is no such thing"),
        (409, "Its function is not registered here"),
        (429, "Its queue is full"),
    )
}
"""What every route may answer instead, for OpenAPI."""


class TaskRoute(APIRoute):
    """A route for those who have a role; answers our errors with their own sentence.

    Who asks is looked at before anything else of a request is read. ``is_for_all`` keeps out
    those who may see some tasks only.
    """

    security: ClassVar[Security]
    role: ClassVar[Role]
    is_for_all: ClassVar[bool]

    @classmethod
    def behind(cls, security: Security, role: Role, *, is_for_all: bool) -> type[TaskRoute]:
        """The kind of route that stands behind a security, for a role."""
        facts = {"security": security, "role": role, "is_for_all": is_for_all}
        return type(cls.__name__, (cls,), facts)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                await self._let_in(request)
                return await handle(request)
            except TaskiqFlowError as error:
                raise _answer_to(error) from error

        return answer

    async def _let_in(self, request: Request) -> None:
        scope, security = request.scope, self.security
        if security.require_https and not is_https(scope):
            raise NotAllowedError("a client", "ask this", "it is only served by https")
        scope[SECURITY] = security
        identity = await security.authenticate(scope)
        if identity is None:
            raise NotAuthenticatedError
        scope[IDENTITY] = identity
        what = f"{request.method} this"
        if not identity.role.allows(self.role):
            why = f"it needs the role {self.role}, and theirs is {identity.role}"
            raise NotAllowedError(identity.name, what, why)
        if self.is_for_all and identity.pipelines is not None:
            why = "it is about all tasks, and they may see some only"
            raise NotAllowedError(identity.name, what, why)
        if request.method not in SAFE_METHODS:
            security.check_state_change(scope, identity, request.headers.get(CSRF_HEADER))


def _answer_to(error: TaskiqFlowError) -> Exception:
    """What is answered; an error that nobody expects stays what it is."""
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), None)
    if status is None:
        return error
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return HTTPException(status, str(error), headers)
