"""Max pools have PyTorch's values, whatever their windows and whatever the images hold."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from thingsvision_server.backends.taps import taps
from thingsvision_server.backends.torch.max_pools import FastMaxPool, has_max_pools, max_pool2d
from thingsvision_server.backends.torch.model import TorchModel
from thingsvision_server.backends.torch.shortcuts import use_shortcuts
from thingsvision_server.backends.torch.structure import Tower, describe
from thingsvision_server.inputs import IMAGE, InputSpec

WINDOWS = [
    {
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
    }
    for kernel_size, stride, padding, dilation, ceil_mode in product(
        (2, (3, 3), (3, 2)), (1, 2, (3, 1), None), (0, 1), (1, (2, 1)), (False, True)
    )
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("height", "width"), [(7, 6), (8, 9), (13, 13)])
def test_values_are_pytorchs(height: int, width: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, height, width)
    usual = torch.randn(shape, generator=generator).to(dtype)
    special = torch.tensor([0.0, 1.0, -1.0, torch.nan, torch.inf, -torch.inf], dtype=dtype)
    strange = special[torch.randint(len(special), shape, generator=generator)]
    for windows, images in product(WINDOWS, (usual, strange)):
        expected = F.max_pool2d(images, **windows)
        found = max_pool2d(images, **windows)
        torch.testing.assert_close(
            found, expected, rtol=0, atol=0, equal_nan=True, msg=str(windows)
        )


@pytest.mark.parametrize(
    "images",
    [
        torch.randn(3, 8, 8),
        torch.randn(0, 3, 8, 8),
        torch.randn(2, 3, 8, 8, dtype=torch.float64),
        torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last),
        torch.randn(2, 3, 16, 8)[:, :, ::2],
    ],
    ids=["no batch", "empty", "float64", "channels last", "strided"],
)
def test_others_are_left_to_pytorch(images: torch.Tensor) -> None:
    expected = F.max_pool2d(images, 3, 2)
    found = max_pool2d(images, 3, 2)
    assert found.stride() == expected.stride()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_batch_of_many_pieces_is_whole() -> None:
    images = torch.randn(5, 40, 112, 113)  # 10 MB
    torch.testing.assert_close(
        max_pool2d(images, 3, 2, 1), F.max_pool2d(images, 3, 2, 1), rtol=0, atol=0
    )


def test_indices_are_pytorchs() -> None:
    images = torch.randn(1, 2, 8, 8)
    for found, expected in zip(
        max_pool2d(images, 2, return_indices=True),
        F.max_pool2d(images, 2, return_indices=True),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "windows",
    [{"kernel_size": 9}, {"kernel_size": 2, "padding": 2}, {"kernel_size": 2, "stride": 0}],
)
def test_impossible_windows_are_refused_as_by_pytorch(windows: Mapping[str, Any]) -> None:
    images = torch.randn(1, 2, 8, 8)
    with pytest.raises(RuntimeError) as expected:
        F.max_pool2d(images, **windows)
    with pytest.raises(RuntimeError) as found:
        max_pool2d(images, **windows)
    assert str(found.value) == str(expected.value)


class _Functional(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(torch.max_pool2d(images, 2), kernel_size=(2, 2), stride=(2, 2))


def test_pools_of_modules_and_functions_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.MaxPool2d(2), _Functional())
    assert has_max_pools(network)
    assert not has_max_pools(_Functional())
    images = torch.randn(2, 3, 32, 32)
    expected = network(images)
    seen: list[tuple[int, ...]] = []

    def watched(images: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(tuple(images.shape))
        return max_pool2d(images, *args, **kwargs)

    quick = {F.max_pool2d: watched, torch.max_pool2d: watched}
    monkeypatch.setattr("thingsvision_server.backends.torch.max_pools._REPLACEMENTS", quick)
    with FastMaxPool():
        found = network(images)
    assert seen == [(2, 3, 32, 32), (2, 3, 16, 16), (2, 3, 8, 8)]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("fast", [True, False])
def test_the_switch_decides_and_changes_no_value(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Sequential(nn.MaxPool2d(3, 2), nn.MaxPool2d(2))
    spec = InputSpec((3, 32, 32))
    structure = describe(network, {IMAGE: Tower(network, spec)})
    images = torch.randn(4, *spec.shape)
    count = 0

    def count_calls(images: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return max_pool2d(images, *args, **kwargs)

    replacements = {F.max_pool2d: count_calls, torch.max_pool2d: count_calls}
    monkeypatch.setattr("thingsvision_server.backends.torch.max_pools._REPLACEMENTS", replacements)
    with use_shortcuts(fast_max_pool=fast, skip_initialisation=True):
        model = TorchModel(network, "cpu")
    (rows,) = model.run([images], taps(structure, ["1"])).rows
    assert count == (2 if fast else 0)
    expected = F.max_pool2d(F.max_pool2d(images, 3, 2), 2)
    torch.testing.assert_close(torch.from_numpy(rows), expected, rtol=0, atol=0)
