"""What endpoints ask for: an identity, a role, a pipeline that somebody may see."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from taskiq_flow.exceptions import MissingExtraError, NotAllowedError, NotAuthenticatedError
from taskiq_flow.security.identity import Identity, Role
from taskiq_flow.security.security import IDENTITY

try:
    from starlette.exceptions import HTTPException
    from starlette.requests import HTTPConnection
except ImportError as error:
    raise MissingExtraError("requires()", "dashboard", "starlette") from error


def identity_of(connection: HTTPConnection) -> Identity:
    """Who makes a request, as `SecurityMiddleware` has found out.

    Raises:
        NotAuthenticatedError: Nobody is known, or the middleware is not there.
    """
    identity = connection.scope.get(IDENTITY)
    if identity is None:
        raise NotAuthenticatedError
    return cast("Identity", identity)


@dataclass(frozen=True)
class requires:  # noqa: N801 - reads as a function: Depends(requires(Role.OPERATOR))
    """Lets only those in who have a role, with 401 and 403 for others.

    As a dependency of FastAPI, ``Depends(requires(Role.OPERATOR))``, it gives the `Identity`. As a
    decorator of a Starlette endpoint, ``@requires(Role.OPERATOR)``, it goes directly around it.
    """

    role: Role

    def __call__(self, connection: HTTPConnection) -> Any:
        if not isinstance(connection, HTTPConnection):  # pyright: ignore[reportUnnecessaryIsInstance]
            return self._around(cast("Callable[..., Any]", connection))
        return self.check(connection)

    def check(self, connection: HTTPConnection) -> Identity:
        """Who asks, if they may.

        Raises:
            HTTPException: 401 where nobody is known, 403 where the role is not enough.
        """
        try:
            identity = identity_of(connection)
            if not identity.role.allows(self.role):
                why = f"it needs the role {self.role}, and theirs is {identity.role}"
                raise NotAllowedError(identity.name, "do this", why)
        except NotAuthenticatedError as error:
            raise HTTPException(401, str(error), {"www-authenticate": "Bearer"}) from error
        except NotAllowedError as error:
            raise HTTPException(403, str(error)) from error
        return identity

    def _around(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(endpoint)
        async def guarded(connection: HTTPConnection, *args: Any, **kwargs: Any) -> Any:
            self.check(connection)
            answer = endpoint(connection, *args, **kwargs)
            return await answer if inspect.isawaitable(answer) else answer

        return guarded
