"""Who hears of events: one subscription per process, and deliveries that nobody waits for."""

from taskiq_flow.observers.base import Feed, Follower, Observer
from taskiq_flow.observers.bus import EventBus
from taskiq_flow.observers.calling import call_hook
from taskiq_flow.observers.delivery import Delivery

__all__ = ["Delivery", "EventBus", "Feed", "Follower", "Observer", "call_hook"]
