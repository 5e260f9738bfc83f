"""What users read of runs."""

from taskiq_flow.tracking.models import PipelineState, PipelineStatus, StepState, StepStatus

__all__ = ["PipelineState", "PipelineStatus", "StepState", "StepStatus"]
