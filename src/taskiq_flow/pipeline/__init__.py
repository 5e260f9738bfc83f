"""The pipelines that users write."""

from taskiq_flow.pipeline.dataflow import DataflowPipeline, DataflowResult
from taskiq_flow.pipeline.sequential import Pipeline

__all__ = ["DataflowPipeline", "DataflowResult", "Pipeline"]
