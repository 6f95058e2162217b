"""Programs of `torch.export` that no exporter writes: each is refused, or fails as a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from support.written_programs import FLOAT, LONG, archive, dtype, node, text
from thingsvision_client import Client
from thingsvision_client.errors import DeviceMemoryError, InvalidRequestError

from .registry import Target, attack

_SMALLEST = -(2**63)
_INDICES = [
    node("zeros_like.default", "zeros", self="x"),
    node("add.Tensor", "far", self="zeros", other=10.0**17),
    node("_to_copy.default", "indices", self="far", dtype=dtype(LONG)),
]


def _whole(value: int, name: str) -> list[dict[str, Any]]:
    return [node("full_like.default", name, self="x", fill_value=value, dtype=dtype(LONG))]


def _back(name: str) -> dict[str, Any]:
    return node("_to_copy.default", "result", self=name, dtype=dtype(FLOAT))


_POOL = {"kernel_size": [2, 2], "stride": [2, 2], "padding": [0, 0]}

ENDING: Mapping[str, Sequence[dict[str, Any]]] = {
    "the smallest integer divided by -1": [
        *_whole(_SMALLEST, "one"), *_whole(-1, "other"),
        node("div.Tensor_mode", "divided", self="one", other="other", rounding_mode=text("trunc")),
        _back("divided"),
    ],
    "the smallest integer averaged over -1": [
        *_whole(_SMALLEST, "one"),
        node("avg_pool2d.default", "pooled", self="one", **_POOL, ceil_mode=False,
             count_include_pad=True, divisor_override=-1),
        _back("pooled"),
    ],
    "a gradient at made-up indices": [
        *_INDICES,
        node("max_pool2d_with_indices_backward.default", "result", grad_output="x", self="x",
             **_POOL, dilation=[1, 1], ceil_mode=False, indices="indices"),
    ],
    "an adaptive gradient at made-up indices": [
        *_INDICES,
        node("adaptive_max_pool2d_backward.default", "result", grad_output="x", self="x",
             indices="indices"),
    ],
    "values at made-up indices": [
        *_INDICES, node("gather.default", "result", self="x", dim=3, index="indices")
    ],
    "memory of others by strides": [
        node("as_strided.default", "result", self="x", size=[2, 3000, 8, 8],
             stride=[64, 64, 8, 1]),
    ],
    "another size of the same memory": [
        node("resize_.default", "result", self="x", size=[1, 3000, 8, 8])
    ],
    "random numbers that say they are switched off": [
        node("rand.default", "result", size=[2, 3, 8, 8], p=0.0, training=False)
    ],
    "random numbers in place": [node("bernoulli_.float", "result", self="x", p=0.5)],
    "several tensors overwritten": [
        node("_foreach_zero_.default", "result", self=["x"]), node("relu.default", "y", self="x")
    ],
    "a resize beyond the image": [
        node("_upsample_bilinear2d_aa.default", "result", self="x", output_size=[80, 80],
             align_corners=False, scales_h=0.1, scales_w=0.1),
    ],
    "an allocation of 10 TB": [node("empty.memory_format", "result", size=[10**12, 3])],
}  # fmt: skip


@attack()
def programs_that_end_the_process(target: Target) -> None:
    """Upload programs of kernels that trust made-up indices and sizes, or divide beyond limits."""
    for name, nodes in ENDING.items():
        path = target.folder / f"{name}.pt2"
        path.write_bytes(archive(nodes))
        with Client(target.address) as client:
            if "divided" in name:
                client.upload_model(path)  # it has a value, the integer itself
                continue
            with pytest.raises((InvalidRequestError, DeviceMemoryError)):
                client.upload_model(path)
