"""Where other systems have the transports of their events; ours are in the event feed."""

from taskiq_flow.not_shipped import refusing

__getattr__ = refusing(__name__)
