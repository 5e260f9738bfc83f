"""The REST routes of background tasks."""

from fastapi_taskflow.api.desk import Desk
from fastapi_taskflow.api.router import Offer, make_router, offers

__all__ = ["Desk", "Offer", "make_router", "offers"]
