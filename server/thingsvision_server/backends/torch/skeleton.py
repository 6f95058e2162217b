"""Builds networks that have shapes and no values, so that they take neither memory nor time.

On PyTorch's `meta` device nothing has a value. Some networks compute their own sizes with
tensors while they are built: these few functions then give real numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_NUMBERS = frozenset({torch.arange, torch.linspace, torch.logspace, torch.tensor})


class _RealNumbers(TorchFunctionMode):
    """Keeps numbers that a network computes with on the CPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _NUMBERS and kwargs.get("device") is None:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


@contextmanager
def without_parameters() -> Iterator[None]:
    """Have this thread's networks built without values, but for numbers that they compute with.

    Buffers that are made of such numbers have values: move the network to `meta` afterwards.
    """
    with torch.device("meta"), _RealNumbers():
        yield
