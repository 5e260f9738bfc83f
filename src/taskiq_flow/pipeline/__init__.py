"""The pipelines that users write."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading

if TYPE_CHECKING:
    from taskiq_flow.pipeline.dataflow import DataflowPipeline, DataflowResult
    from taskiq_flow.pipeline.sequential import Pipeline

__all__ = [
    "DataflowPipeline",
    "DataflowResult",
    "Pipeline",
]

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "DataflowPipeline": "taskiq_flow.pipeline.dataflow",
            "DataflowResult": "taskiq_flow.pipeline.dataflow",
            "Pipeline": "taskiq_flow.pipeline.sequential",
        },
    )
