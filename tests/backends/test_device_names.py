"""Names of devices: PyTorch's, UUIDs of GPUs and MIG instances, and what hides a GPU."""

from __future__ import annotations

import pytest

from thingsvision_server.backends.torch.device_names import VisibleDevice, find_device
from thingsvision_server.errors import PreconditionError

GPUS = [
    VisibleDevice("cuda:0", "NVIDIA H200", "GPU-1f2e3d4c-0000"),
    VisibleDevice("cuda:1", "NVIDIA H200", "GPU-1f99aaaa-1111"),
]
SLICE = [VisibleDevice("cuda:0", "NVIDIA H200 MIG 1g.18gb")]
MIG = "MIG-8a7b6c5d-2222"


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_names_of_pytorch_stay(name: str) -> None:
    assert find_device(name, GPUS, None) == name


@pytest.mark.parametrize(
    ("name", "devices", "visible", "found"),
    [
        ("GPU-1f2e3d4c-0000", GPUS, None, "cuda:0"),
        ("gpu-1f99", GPUS, None, "cuda:1"),
        (MIG, SLICE, MIG, "cuda:0"),
        (MIG, SLICE, "MIG-8a7b", "cuda:0"),
        (MIG, [VisibleDevice("cuda:0", "A100 MIG 1g.5gb", MIG)], None, "cuda:0"),
    ],
)
def test_a_uuid_names_a_visible_device(
    name: str, devices: list[VisibleDevice], visible: str | None, found: str
) -> None:
    assert find_device(name, devices, visible) == found


@pytest.mark.parametrize(
    ("name", "devices", "visible", "told"),
    [
        ("cuda:2", GPUS, None, ["cuda:0 (NVIDIA H200, GPU-1f2e3d4c-0000)", "'cuda:2'"]),
        ("cuda:2", GPUS, "2,3", ["CUDA_VISIBLE_DEVICES=2,3 numbers", "from cuda:0 on"]),
        ("1", GPUS, None, ["Did you mean cuda:1?"]),
        ("gpu0", GPUS, None, ["Did you mean cuda:0?"]),
        ("GPU-1f", GPUS, None, ["'GPU-1f'"]),
        ("cuda", [], "", ["hides all GPUs", "must be auto or one of cpu, got"]),
        ("cuda:0", [], "-1", ["CUDA_VISIBLE_DEVICES=-1 hides all GPUs"]),
        ("cuda:0", [], "7", ["CUDA_VISIBLE_DEVICES=7 names no GPU that this machine has"]),
        ("cuda:1", SLICE, f"{MIG},MIG-other", ["MIG 1g.18gb", "only the first"]),
    ],
)
def test_a_device_that_can_not_be_used_is_explained(
    name: str, devices: list[VisibleDevice], visible: str | None, told: list[str]
) -> None:
    with pytest.raises(PreconditionError) as refused:
        find_device(name, devices, visible)
    for words in told:
        assert words in str(refused.value)
