"""Where other systems have encodings of scientific arrays; ours take registered codecs."""

from taskiq_flow.not_shipped import refusing

__getattr__ = refusing(__name__)
