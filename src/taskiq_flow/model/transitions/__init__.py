"""The whole rule by which a run changes; no I/O, no clock, no broker.

Every function takes a `RunState`, what happened, and the time; it changes the state in place
(a copy would cost as much as the run is long) and returns what its store has to do. Stores apply
them inside a lock or a transaction; the Redis store says the same in Lua and is held to these by
the contract suite.

What can happen to a run is in `creation`, `starting`, `finishing`, `leases`, `waking` and
`steering`. These lean on `outcomes`, that on `steps`, and that on `slots`.
"""

from taskiq_flow.model.transitions.codes import DEADLINE_ERROR, EVENT_TIMEOUT_ERROR, POISON_ERROR
from taskiq_flow.model.transitions.creation import create, create_started, first_slot
from taskiq_flow.model.transitions.finishing import finish
from taskiq_flow.model.transitions.leases import release, renew
from taskiq_flow.model.transitions.pace import Pace
from taskiq_flow.model.transitions.starting import start
from taskiq_flow.model.transitions.steering import cancel, receive, resume
from taskiq_flow.model.transitions.waking import hurry, pass_deadline, wake

__all__ = [
    "DEADLINE_ERROR",
    "EVENT_TIMEOUT_ERROR",
    "POISON_ERROR",
    "Pace",
    "cancel",
    "create",
    "create_started",
    "finish",
    "first_slot",
    "hurry",
    "pass_deadline",
    "receive",
    "release",
    "renew",
    "resume",
    "start",
    "wake",
]
