"""Lets callers in: who they are, their role, how often they ask, which runs they may see."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection

from taskiq_flow.api.context import ApiContext
from taskiq_flow.exceptions import (
    NotAllowedError,
    NotAuthenticatedError,
    OperationError,
    RunNotFoundError,
)
from taskiq_flow.operations import Operations, RunSummary
from taskiq_flow.security import CSRF_HEADER, Access, Identity, Role
from taskiq_flow.security.requests import SAFE_METHODS, client_of, is_https, query, route_path

BODY_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was let in, and what they can do."""

    identity: Identity
    operations: Operations
    context: ApiContext

    @property
    def actor(self) -> str:
        return self.identity.name

    def may(self, access: Access, *names: str) -> bool:
        return self.context.authorization.allows(self.identity, access, *names)

    def sees_all(self) -> None:
        """Refuse what is about all pipelines to those who may not see all.

        Raises:
            NotAllowedError: They may see only some.
        """
        if self.identity.pipelines is not None or self.context.authorization:
            if self.identity.role is Role.ADMIN and self.identity.pipelines is None:
                return
            why = "it is about all pipelines, and they may only see some"
            raise NotAllowedError(self.identity.name, "see this", why)

    async def run(self, ref: str, access: Access = Access.READ) -> RunSummary:
        """A run that they may see, and do this with.

        Raises:
            RunNotFoundError: There is none, or none that they may see.
            NotAllowedError: They may see it, and not do this.
        """
        run = await self.operations.summary(ref)
        if not self.may(Access.READ, run.name, run.pipeline_id, run.run_id):
            raise RunNotFoundError(ref)
        if not self.may(access, run.name, run.pipeline_id, run.run_id):
            why = "their role or pipelines do not include it"
            raise NotAllowedError(self.identity.name, f"{access} run {run.run_id}", why)
        return run


def door(
    context: ApiContext, role: Role
) -> Callable[[HTTPConnection], Coroutine[Any, Any, Caller]]:
    """Make the dependency that each route has: lets in who has at least a role."""

    async def let_in(connection: HTTPConnection) -> Caller:
        scope, security = connection.scope, context.security
        is_socket = scope["type"] == "websocket"
        if security.require_https and not is_https(scope):
            raise NotAllowedError("a client", "ask this", "it is only served by https")
        if is_socket:
            security.check_socket(scope)
            _take_token_of_address(scope)
        try:
            identity = await security.authenticate(scope)
        except NotAuthenticatedError:
            context.count("*", f"client:{client_of(scope)}")
            raise
        if identity is None:
            context.count("*", f"client:{client_of(scope)}")
            raise NotAuthenticatedError
        context.count(route_path(scope), f"{identity.via}:{identity.name}")
        if not identity.role.allows(role):
            why = f"it needs the role {role}, and theirs is {identity.role}"
            raise NotAllowedError(identity.name, "do this", why)
        if not is_socket and scope["method"] not in SAFE_METHODS:
            security.check_state_change(scope, identity, connection.headers.get(CSRF_HEADER))
            _check_length(connection)
        return Caller(identity, await context.operations(), context)

    return let_in


def _take_token_of_address(scope: Any) -> None:
    """Browsers can send no header with a WebSocket: a token may stand in its address instead."""
    given = query(scope)
    for parameter, name, prefix in (
        ("token", b"authorization", "Bearer "),
        ("api_key", b"x-api-key", ""),
    ):
        if parameter in given:
            value = f"{prefix}{given[parameter]}".encode("latin-1", "replace")
            scope["headers"] = [*scope["headers"], (name, value)]


def _check_length(connection: HTTPConnection) -> None:
    length = connection.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > BODY_BYTES:
        raise OperationError(f"The body is longer than {BODY_BYTES:,} bytes; send less.")
