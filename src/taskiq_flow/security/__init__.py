"""Who may look, act and remove: one door for the dashboard, the API and the pages of tasks."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading
from taskiq_flow.security.audit import AuditLogger
from taskiq_flow.security.authorization import (
    Access,
    PipelineAuthorization,
    verify_pipeline_access,
)
from taskiq_flow.security.credentials import ApiKeys, User, Users
from taskiq_flow.security.identity import Identity, Role
from taskiq_flow.security.limiter import Limiter, Rate
from taskiq_flow.security.middleware import HTTPSEnforcement, SecurityMiddleware
from taskiq_flow.security.passwords import hash_password
from taskiq_flow.security.security import (
    COOKIE,
    CSRF_FIELD,
    CSRF_HEADER,
    AuthProvider,
    Identify,
    Login,
    Security,
)

if TYPE_CHECKING:
    from taskiq_flow.security.guards import identity_of, requires
    from taskiq_flow.security.jwt_tokens import TokenAuthProvider

__all__ = [
    "COOKIE",
    "CSRF_FIELD",
    "CSRF_HEADER",
    "Access",
    "ApiKeys",
    "AuditLogger",
    "AuthProvider",
    "HTTPSEnforcement",
    "Identify",
    "Identity",
    "Limiter",
    "Login",
    "PipelineAuthorization",
    "Rate",
    "Role",
    "Security",
    "SecurityMiddleware",
    "TokenAuthProvider",
    "User",
    "Users",
    "hash_password",
    "identity_of",
    "requires",
    "verify_pipeline_access",
]

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "TokenAuthProvider": "taskiq_flow.security.jwt_tokens",
            "identity_of": "taskiq_flow.security.guards",
            "requires": "taskiq_flow.security.guards",
        },
    )
