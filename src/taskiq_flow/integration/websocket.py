"""Where other systems have a WebSocket server of its own; ours is a part of the API."""

from __future__ import annotations

from taskiq_flow.not_shipped import refusing

__getattr__ = refusing(__name__)
