"""Where other systems have a viewer of graphs for NiceGUI pages."""

from taskiq_flow.not_shipped import refusing

__getattr__ = refusing("taskiq_flow.integration")
