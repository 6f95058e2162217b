"""Max pools of images on a CPU, in a tenth of PyTorch's time.

In contiguous memory, PyTorch reads every window value by value. Here whole rows are compared at
once, then the columns of the result. A maximum is exact in any order, so all values equal
PyTorch's, NaN included; only the sign of a zero may differ, if a window's maxima are 0 and -0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn
from torch.overrides import TorchFunctionMode

_CACHED_BYTES = 1024 * 1024
"""Bytes of planes that a core processes at once: they stay in its cache."""

_DTYPES = (torch.float32, torch.bfloat16)

_Sizes = int | Sequence[int]

_TORCH_MAX_POOL2D: Callable[..., Any] = F.max_pool2d


class FastMaxPool(TorchFunctionMode):
    """While it is active, computes the max pools of the calling thread.

    It intercepts every function of a pass, at 2 microseconds each: `has_max_pools` tells whether
    that is worth it.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function or its faster replacement."""
        return _REPLACEMENTS.get(func, func)(*args, **(kwargs or {}))


def has_max_pools(network: nn.Module) -> bool:
    """Return whether a module of the network is a max pool of images."""
    return any(isinstance(module, nn.MaxPool2d) for module in network.modules())


@dataclass(frozen=True)
class _Windows:
    """The windows along one axis."""

    size: int
    stride: int
    padding: int
    dilation: int
    ceil_mode: bool

    def fit(self, length: int) -> bool:
        """Return whether PyTorch accepts these windows for an axis of this length."""
        extent = self.dilation * (self.size - 1) + 1
        return self.stride > 0 and 2 * self.padding <= extent <= length + 2 * self.padding

    def count(self, length: int) -> int:
        """Return how many windows an axis has."""
        room = length + 2 * self.padding - self.dilation * (self.size - 1) - 1
        count = (-(-room // self.stride) if self.ceil_mode else room // self.stride) + 1
        starts_beyond = (count - 1) * self.stride >= length + self.padding
        return count - (self.ceil_mode and starts_beyond)


def max_pool2d(
    images: torch.Tensor,
    kernel_size: _Sizes,
    stride: _Sizes | None = None,
    padding: _Sizes = 0,
    dilation: _Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return what `torch.nn.functional.max_pool2d` does."""
    steps = () if stride is None else stride
    size, step, edge, gap = map(_pair, (kernel_size, steps, padding, dilation))
    axes = [_Windows(*axis, ceil_mode) for axis in zip(size, step or size, edge, gap, strict=True)]
    is_plain = images.dim() == 4 and images.is_contiguous() and images.dtype in _DTYPES
    fits = all(map(_Windows.fit, axes, images.shape[-2:]))
    if return_indices or not is_plain or not fits or not images.numel():
        windows = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
        return _TORCH_MAX_POOL2D(images, *windows)
    return _pool(images, *axes)


def _pool(images: torch.Tensor, rows: _Windows, columns: _Windows) -> torch.Tensor:
    planes = images.flatten(0, 1)
    height, width = planes.shape[1:]
    pooled = images.new_empty(len(planes), rows.count(height), columns.count(width))
    at_once = max(1, _CACHED_BYTES * torch.get_num_threads() // planes[0].nbytes)
    pieces = (torch.split(one, at_once) for one in (planes, pooled))
    for some, result in zip(*pieces, strict=True):
        result.copy_(_pool_columns(_pool_rows(some, rows), columns))
    return pooled.view(*images.shape[:2], *pooled.shape[1:])


def _pair(sizes: _Sizes) -> Sequence[int]:
    """Return the sizes along both axes; a single size is for both."""
    each = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    return each * 2 if len(each) == 1 else each


def _pool_rows(planes: torch.Tensor, windows: _Windows) -> torch.Tensor:
    count = windows.count(planes.shape[1])
    stop = (count - 1) * windows.stride + 1
    below = stop + windows.dilation * (windows.size - 1) - planes.shape[1] - windows.padding
    if windows.padding or below > 0:
        edges = (0, 0, windows.padding, max(0, below))
        planes = F.pad(planes, edges, value=-torch.inf)
    firsts = range(0, windows.dilation * windows.size, windows.dilation)
    largest, *others = (planes[:, first : first + stop : windows.stride] for first in firsts)
    for other in others:
        largest = torch.maximum(largest, other)
    return largest


def _pool_columns(planes: torch.Tensor, windows: _Windows) -> torch.Tensor:
    return F.max_pool1d(
        planes,
        kernel_size=windows.size,
        stride=windows.stride,
        padding=windows.padding,
        dilation=windows.dilation,
        ceil_mode=windows.ceil_mode,
    )


_REPLACEMENTS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    _TORCH_MAX_POOL2D: max_pool2d,
    torch.max_pool2d: max_pool2d,
}
"""Faster replacements, by the function of PyTorch."""
