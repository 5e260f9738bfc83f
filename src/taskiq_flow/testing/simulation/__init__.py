"""The engine on virtual time: whole clusters with faults, by seed, in milliseconds."""

from taskiq_flow.testing.simulation.checks import Violation
from taskiq_flow.testing.simulation.clock import VirtualLoop
from taskiq_flow.testing.simulation.cluster import Report, Setting, simulate
from taskiq_flow.testing.simulation.faults import Fault, Rates, parse_faults

__all__ = [
    "Fault",
    "Rates",
    "Report",
    "Setting",
    "Violation",
    "VirtualLoop",
    "parse_faults",
    "simulate",
]
