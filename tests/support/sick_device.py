"""Makes PyTorch fail as it does on a GPU, for inputs with certain values, in a server of tests.

No machine of the tests has a GPU, and none would be broken on purpose: a convolution raises the
exceptions that PyTorch raises there.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

_CONVOLVE = torch.nn.Conv2d.forward

INVALID_ARGUMENT, OUT_OF_MEMORY, ASSERT = 1e6, 2e6, 3e6
"""Values of an input that make the first convolution of it fail."""

_ERRORS = {
    INVALID_ARGUMENT: lambda: torch.AcceleratorError("CUDA error: invalid argument\nSearch for"),
    OUT_OF_MEMORY: lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    ASSERT: lambda: torch.AcceleratorError("CUDA error: device-side assert triggered\nSearch for"),
}


def fall_sick() -> None:
    """Have convolutions of this process fail for these values."""

    def forward(self: torch.nn.Conv2d, batch: torch.Tensor) -> Any:
        make = _ERRORS.get(float(batch.max()))
        if make is not None:
            raise make()
        return _CONVOLVE(self, batch)

    torch.nn.Conv2d.forward = forward  # type: ignore[method-assign]


def hold_at_most(image_count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have convolutions of this process run out of memory for batches of more images."""

    def forward(self: torch.nn.Conv2d, batch: torch.Tensor) -> Any:
        if len(batch) > image_count:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return _CONVOLVE(self, batch)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", forward)
