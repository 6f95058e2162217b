"""Limits of forward passes: how many images fit into one, by what each of them takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from ...backends.modules import ModuleInfo, Structure
from ...backends.taps import Tap

_GIB = 2**30
_FLOAT_BYTES = 4
_LIVE_OUTPUTS = 2
"""Outputs that are in memory at a time: a module's input, and what it makes of that."""

_ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float64": 8, "int64": 8, "bool": 1, "uint8": 1}
"""Bytes of one value by the element type of a module's output; else four."""


@dataclass(frozen=True)
class ImageCost:
    """What one image takes in a pass, predicted from shapes, bytes."""

    row_bytes: int
    input_bytes: int = 0
    inner_bytes: int = 0
    """Outputs of modules while the pass runs, at their largest."""

    @property
    def pass_bytes(self) -> int:
        """Return the memory of a pass for the image."""
        return self.input_bytes + self.inner_bytes + self.row_bytes


@dataclass(frozen=True)
class _Limit:
    option: str
    most: int
    image_bytes: int
    noun: str

    @property
    def image_count(self) -> int:
        return self.most // max(1, self.image_bytes)


@dataclass(frozen=True)
class BatchLimits:
    """The limits of one forward pass.

    They are fixed when the server starts, never by what is free at the moment: the number of
    images in a pass decides the last bits of their rows.
    """

    images: int
    activation_bytes: int
    input_bytes: int = 2**62
    inner_bytes: int = 2**62

    def max_images(self, cost: ImageCost) -> int:
        """Return how many images fit into a pass, at least one."""
        return max(1, min(self.images, self._lowest(cost).image_count))

    def name_lowest(self, cost: ImageCost) -> str:
        """Return the limit that `max_images` is due to, as the server's option sets it."""
        lowest = self._lowest(cost)
        if self.images <= lowest.image_count:
            return f"--max-batch {self.images}"
        return (
            f"{lowest.option} {lowest.most:,}, where an image has {lowest.image_bytes:,} bytes of "
            f"{lowest.noun}"
        )

    def _lowest(self, cost: ImageCost) -> _Limit:
        limits = (
            _Limit("--max-batch-bytes", self.activation_bytes, cost.row_bytes, "activations"),
            _Limit("--max-input-bytes", self.input_bytes, cost.input_bytes, "input"),
            _Limit("--max-inner-bytes", self.inner_bytes, cost.inner_bytes, "inner activations"),
        )
        return min(limits, key=lambda limit: limit.image_count)


def default_limits(device_bytes: int, host_bytes: int, *, on_gpu: bool) -> BatchLimits:
    """Return the limits of a device with so much memory, on a machine with so much memory.

    A CPU is fastest with activations that fit its caches; a GPU needs large batches. Two batches
    of inputs may wait beside the running one, and passes of several lanes take turns where their
    memory does not suffice for all (`PassRoom`).
    """
    if on_gpu:
        return BatchLimits(
            images=256,
            activation_bytes=min(_GIB, device_bytes // 16),
            input_bytes=min(device_bytes, host_bytes) // 24,
            inner_bytes=device_bytes // 4,
        )
    return BatchLimits(
        images=64,
        activation_bytes=32 * 2**20,
        input_bytes=host_bytes // 24,
        inner_bytes=host_bytes * 3 // 4,
    )


def predict_cost(
    input_shape: Sequence[int], taps: Sequence[Tap], inner_bytes: int = 0
) -> ImageCost:
    """Return the cost of an image of that input shape, with the bytes of `predict_inner_bytes`."""
    return ImageCost(
        row_bytes=sum(tap.row_bytes for tap in taps),
        input_bytes=_FLOAT_BYTES * prod(input_shape),
        inner_bytes=inner_bytes,
    )


def predict_inner_bytes(structure: Structure, taps: Sequence[Tap]) -> int:
    """Return the memory of one image's inner activations in a pass up to the last tap, bytes."""
    sizes = [
        prod(call.shape) * _ITEM_BYTES.get(call.dtype, _FLOAT_BYTES)
        for module in _modules_before(structure, taps)
        for call in module.calls
    ]
    return _LIVE_OUTPUTS * max(sizes, default=0)


def _modules_before(structure: Structure, taps: Sequence[Tap]) -> Iterator[ModuleInfo]:
    """Yield the modules that run until the last tap is complete: those in it stand after it."""
    tapped = {tap.module for tap in taps}
    last = max(
        (place for place, one in enumerate(structure.modules) if one.name in tapped), default=-1
    )
    inside = tuple(f"{name}." if name else "" for name in tapped)
    for place, module in enumerate(structure.modules):
        if module.modality == taps[0].modality and (
            place <= last or module.name.startswith(inside)
        ):
            yield module
