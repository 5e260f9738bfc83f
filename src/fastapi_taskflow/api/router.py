"""The routes of background tasks under one prefix, each behind the role that it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from fastapi_taskflow.api.actions import Actions
from fastapi_taskflow.api.answers import REFUSALS, TaskRoute
from fastapi_taskflow.api.reads import Reads
from fastapi_taskflow.api.schemas import (
    AuditOut,
    BulkResults,
    Deleted,
    Metrics,
    QueueOut,
    TaskAction,
    TaskOut,
)
from taskiq_flow.security import Role, Security

if TYPE_CHECKING:
    from fastapi_taskflow.api.desk import Desk

VIEWER, OPERATOR, ADMIN = Role.VIEWER, Role.OPERATOR, Role.ADMIN


@dataclass(frozen=True, slots=True)
class Offer:
    """One route: who may use it, what it answers, and whether it is about all tasks at once."""

    method: str
    path: str
    role: Role
    answer: Any
    handler: Callable[..., Awaitable[Any]]
    is_for_all: bool = False


def offers(desk: Desk) -> tuple[Offer, ...]:
    """All routes; those of fixed paths come before the one that takes any id."""
    reads, actions = Reads(desk), Actions(desk)
    return (
        Offer("GET", "", VIEWER, list[TaskOut], reads.list_tasks),
        Offer("GET", "/metrics", VIEWER, Metrics, reads.metrics, is_for_all=True),
        Offer("GET", "/queues", VIEWER, list[QueueOut], reads.queues),
        Offer("PATCH", "/queues/{name}", ADMIN, QueueOut, actions.change_queue, is_for_all=True),
        Offer("GET", "/audit", ADMIN, list[AuditOut], reads.audit, is_for_all=True),
        Offer("POST", "/bulk-retry", OPERATOR, BulkResults, actions.bulk_retry),
        Offer("POST", "/retry-failed", OPERATOR, BulkResults, actions.retry_failed),
        Offer("DELETE", "/history", ADMIN, Deleted, actions.delete_history, is_for_all=True),
        Offer("GET", "/{task_id}", VIEWER, TaskOut, reads.get_task),
        Offer("POST", "/{task_id}/retry", OPERATOR, TaskAction, actions.retry),
        Offer("POST", "/{task_id}/cancel", OPERATOR, TaskAction, actions.cancel),
    )


def make_router(desk: Desk, prefix: str, security: Security) -> APIRouter:
    """Make the routes. Each stands behind the security by itself: the app's others do not."""
    router = APIRouter(prefix=prefix, tags=["background tasks"], responses=REFUSALS)
    for offer in offers(desk):
        router.add_api_route(
            offer.path,
            offer.handler,
            methods=[offer.method],
            response_model=offer.answer,
            route_class_override=TaskRoute.behind(
                security, offer.role, is_for_all=offer.is_for_all
            ),
        )
    return router
