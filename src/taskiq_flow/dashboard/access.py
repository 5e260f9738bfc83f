"""Who asks and what they may do, as pages need it; `taskiq_flow.security` decides all of it."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from taskiq_flow.security import Identity, Role, Security
from taskiq_flow.security.security import IDENTITY


@dataclass(frozen=True, slots=True)
class Access:
    """The door of the dashboard."""

    security: Security

    def identity(self, request: Request) -> Identity | None:
        """Who asks; None on the login page."""
        return request.scope.get(IDENTITY)

    def actor(self, request: Request) -> str:
        """The name under which an action is written to the audit."""
        found = self.identity(request)
        return "nobody" if found is None else found.name

    def may(self, request: Request, role: Role) -> bool:
        found = self.identity(request)
        return found is not None and found.role.allows(role)

    def may_see(self, request: Request, *names: str) -> bool:
        """Whether a run is of a pipeline that they may see, by its name or its id."""
        found = self.identity(request)
        return found is not None and found.may_see(*names)

    def sees_all(self, request: Request) -> bool:
        found = self.identity(request)
        return found is not None and found.pipelines is None

    def csrf_token(self, request: Request) -> str:
        return self.security.csrf_token(request.scope)

    def can_sign_out(self, request: Request) -> bool:
        found = self.identity(request)
        return found is not None and found.is_session
