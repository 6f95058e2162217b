"""The parts of the server that every source is opened with."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends.tensorflow.model import TensorFlowRuntime
from .weights.folder import WeightsFolder


@dataclass(frozen=True)
class SourceContext:
    """The server's folder of weights, and the child process that runs TensorFlow."""

    weights: WeightsFolder
    tensorflow: TensorFlowRuntime
