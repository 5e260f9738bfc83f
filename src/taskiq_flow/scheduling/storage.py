"""Where other systems keep jobs; ours are beside the runs, see `taskiq_flow.scheduling.book`."""

from taskiq_flow.not_shipped import refusing

__getattr__ = refusing(__name__)
