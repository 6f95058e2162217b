"""What every source is opened with; knows no source."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends.tensorflow.model import TensorFlowRuntime
from .weights.folder import WeightsFolder


@dataclass(frozen=True)
class SourceContext:
    """The server's weights, and the child process that runs TensorFlow."""

    weights: WeightsFolder
    tensorflow: TensorFlowRuntime
