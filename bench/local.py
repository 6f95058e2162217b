"""The yardstick: a torchvision network with a forward hook in this process, as a script has it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from PIL import Image


class _Stop(Exception):  # noqa: N818 - not an error
    """Ends a forward pass after the module that was wanted."""


class LocalModel:
    """A network with seeded random weights, its weights' own transforms, and one hooked module."""

    def __init__(self, name: str, module: str, device: str, *, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self._device = device
        self._network = torchvision.models.get_model(name, weights=None).eval().to(device)
        self._transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        self._network.get_submodule(module).register_forward_hook(self._keep)
        self._stops_early = False
        self._output = torch.empty(0)

    def _keep(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        # A later in-place operation would overwrite what is not copied.
        self._output = output.cpu() if output.is_cuda else output.clone()
        if self._stops_early:
            raise _Stop

    def extract(
        self, paths: Sequence[Path], *, batch_size: int, stops_early: bool
    ) -> npt.NDArray[Any]:
        """Return the module's activations for the images, images x shape."""
        self._stops_early = stops_early
        starts = range(0, len(paths), batch_size)
        return np.concatenate([self._run(paths[i : i + batch_size]) for i in starts])

    @torch.inference_mode()
    def _run(self, paths: Sequence[Path]) -> npt.NDArray[Any]:
        batch = torch.stack([self._transform(Image.open(path).convert("RGB")) for path in paths])
        with suppress(_Stop):
            self._network(batch.to(self._device))
        return np.asarray(self._output.numpy())
