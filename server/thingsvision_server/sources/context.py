"""The parts of the server that every source is opened with."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends.children.guests import GuestRuntime
from ..backends.tensorflow.model import TensorFlowRuntime
from ..shared_folder.claims import Claims
from .weights.folder import WeightsFolder


@dataclass(frozen=True)
class SourceContext:
    """The server's folder of weights, the child processes, and the claims on files."""

    weights: WeightsFolder
    tensorflow: TensorFlowRuntime
    claims: Claims | None = None
    """Tells other servers of the folder which uploaded files are in use; None: there are none."""

    @property
    def guests(self) -> GuestRuntime:
        """The processes that read and run what users uploaded."""
        return self.weights.guests
