"""Builds networks with shapes but without values, which takes neither memory nor time.

On PyTorch's `meta` device no tensor has a value. Some networks compute their own sizes with tensors
while they are built: the few functions they use return real numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_NUMBERS = frozenset({torch.arange, torch.linspace, torch.logspace, torch.tensor})


class _RealNumbers(TorchFunctionMode):
    """Keeps the numbers that a network computes with on the CPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _NUMBERS and kwargs.get("device") is None:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


@contextmanager
def without_parameters() -> Iterator[None]:
    """Build this thread's networks without values, except the numbers they compute with.

    Buffers made from those numbers have values: move the network to `meta` afterwards.
    """
    with torch.device("meta"), _RealNumbers():
        yield
