"""A documented name for which there is something else."""

from taskiq_flow.not_shipped import refusing

__getattr__ = refusing("fastapi_taskflow.backends")
