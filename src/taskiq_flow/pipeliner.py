"""The documented home of the pipelines."""

from taskiq_flow.pipeline import DataflowPipeline, Pipeline

__all__ = ["DataflowPipeline", "Pipeline"]
