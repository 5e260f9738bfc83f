"""Logs once that something is away and once that it is back, however often it is asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass


@dataclass(slots=True)
class Outage:
    """What to say of an outage: ``away`` takes its error."""

    log: logging.Logger
    away: str
    back: str
    is_on: bool = False

    def begin(self, error: Exception) -> None:
        """It does not answer; said again only after it did."""
        if not self.is_on:
            self.is_on = True
            self.log.warning(self.away, error)

    def end(self) -> None:
        """It answers."""
        if self.is_on:
            self.is_on = False
            self.log.warning(self.back)
