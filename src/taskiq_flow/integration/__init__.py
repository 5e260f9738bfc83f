"""Where other systems have viewers for one kind of page; ours are in the dashboard."""

from taskiq_flow.not_shipped import refusing

__getattr__ = refusing(__name__)
