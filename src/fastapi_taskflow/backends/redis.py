"""Tasks in Redis."""

from __future__ import annotations

import re
from typing import Any

from fastapi_taskflow.backends.base import StoreBackend
from fastapi_taskflow.exceptions import BackendOptionError

_NAMESPACE = re.compile(r"[A-Za-z0-9_.\-]{1,100}")


class RedisBackend(StoreBackend):
    """A Redis that any number of instances share.

    ``prefix`` separates applications on one server: it becomes the namespace of the store.
    """

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        prefix: str = "fastapi_taskflow",
        ttl: float | None = None,
        **client_kwargs: Any,
    ) -> None:
        if ttl is not None:
            fix = "say TaskManager(retention_days=…) instead"
            raise BackendOptionError("RedisBackend", "ttl", fix)
        for option in client_kwargs:
            fix = f"write it into the URL: redis://host:6379/0?{option}=…"
            raise BackendOptionError("RedisBackend", option, fix)
        namespace = prefix.replace(":", ".")
        if not _NAMESPACE.fullmatch(namespace):
            fix = "use up to 100 letters, digits, dots, colons, '-' and '_'"
            raise BackendOptionError("RedisBackend", "prefix", fix)
        super().__init__(url, namespace=namespace)
        self.prefix = prefix
