"""Where other systems have a profiler; Taskiq-Flow has none of its own."""

from taskiq_flow.not_shipped import refusing

__getattr__ = refusing(__name__)
