"""Writes accesses into the log, one line each, whatever stands in their fields."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any


class AuditLogger:
    """Writes to the logger ``taskiq_flow.audit``. Actions of operators are stored as well, see
    `taskiq_flow.operations.Operations.audit`."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("taskiq_flow.audit")

    def log_access(
        self,
        user: str,
        action: str,
        pipeline_id: str | None = None,
        success: bool = True,
        ip: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one access; refused ones as a warning."""
        facts = {
            "user": user,
            "action": action,
            "pipeline_id": pipeline_id,
            "success": success,
            "ip": ip,
            "details": dict(details or {}),
        }
        # JSON escapes line feeds and control characters: nobody writes lines of their own.
        level = logging.INFO if success else logging.WARNING
        self._logger.log(level, "access %s", json.dumps(facts, default=str))
