"""The device's limit: inputs that lie on it already, the same pass, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..cases import FeatureCase
from ..features.limit import TruncatedNetwork
from ..inputs import torch_inputs
from ..worker import Case, Column, Result

_COPIES = 2
"""Batches on the device, which take turns: all inputs at once may be too many for it."""


class DeviceLimit(Column):
    """Passes over batches on the device, one after another; only a few rows leave it."""

    def prepare(self, case: Case) -> None:
        """Copy some batches to the device, and the network."""
        self._case = FeatureCase(**case)
        self._device = torch.device(self._case.device)
        self._truncated = TruncatedNetwork.of_case(self._case)
        size = self._case.batch_size
        inputs = torch.from_numpy(torch_inputs(self._case)[: _COPIES * size])
        self._batches = torch.split(inputs.to(self._device), size)

    @torch.inference_mode()
    def run(self) -> Result:
        """Run as many passes as all images take; return the rows of the first."""
        taken: list[torch.Tensor] = []

        def take(_place: int, output: torch.Tensor) -> None:
            if not taken:
                taken.append(output.clone())
            self._take(output)

        for number in range(self._pass_count()):
            self._truncated.run(self._batches[number % len(self._batches)], take, 1)
        rows = taken[0].cpu()  # waits for the device
        self._wait()
        return {self._case.modules[0]: rows.numpy()}

    def _take(self, output: torch.Tensor) -> None:
        """Take the output of a pass."""

    def _pass_count(self) -> int:
        return -(-len(self._case.images) // self._case.batch_size)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class DeviceLimitWithRows(DeviceLimit):
    """The same, with a copy of all rows to the host's memory."""

    def prepare(self, case: Case) -> None:
        """Allocate two buffers for rows, which take turns."""
        super().prepare(case)
        self._rows: Sequence[torch.Tensor] = ()
        self._turn = 0

    def _take(self, output: torch.Tensor) -> None:
        if not self._rows:
            pinned: Any = self._device.type == "cuda"
            empty = [torch.empty(output.shape, pin_memory=pinned) for _ in range(_COPIES)]
            self._rows = tuple(empty)
        self._turn += 1
        self._rows[self._turn % _COPIES][: len(output)].copy_(output, non_blocking=True)
