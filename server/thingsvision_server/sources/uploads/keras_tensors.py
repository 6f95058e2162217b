"""Reads weights saved by Keras 2, with names and axes as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import InvalidWeightsError
from ..weights.state_dicts import StateDict, read_state_dict
from .hdf5 import HDF5_MAGIC, check_hdf5


def _identity(values: Tensor) -> Tensor:
    return values


def _kernel(values: Tensor) -> Tensor:
    """Return [height, width, inputs, outputs] or [inputs, outputs] with outputs, inputs first."""
    return values.permute(3, 2, 0, 1) if values.ndim == 4 else values.T


def _depthwise_kernel(values: Tensor) -> Tensor:
    """Return [height, width, channels, 1] as [channels, 1, height, width]."""
    return values.permute(2, 3, 0, 1)


_PYTORCH_NAMES: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "kernel": ("weight", _kernel),
    "depthwise_kernel": ("weight", _depthwise_kernel),
    "gamma": ("weight", _identity),
    "beta": ("bias", _identity),
    "moving_mean": ("running_mean", _identity),
    "moving_variance": ("running_var", _identity),
}
"""For a tensor's last name in Keras: its name in PyTorch, and the function that moves its axes."""


def read_weights(path: Path, *, mapped: bool = False) -> StateDict:
    """Return the tensors of a Keras 2 file (weights or a whole model) or of a PyTorch file.

    Keras' tensors are called `layer/name`, with PyTorch's name if there is one.
    """
    with path.open("rb") as file:
        if file.read(len(HDF5_MAGIC)) != HDF5_MAGIC:
            return read_state_dict(path, mapped=mapped)
        check_hdf5(file, path.name)
    try:
        tensors = dict(_tensors(path))
    except _BROKEN_FILE as error:
        sentence = f"{path.name} is broken: it lists a tensor that can't be read ({error})"
        raise InvalidWeightsError(sentence, subject=path.name) from error
    if not tensors:
        sentence = f"{path.name} lists no layers: it was not saved by Keras 2"
        raise InvalidWeightsError(sentence, subject=path.name)
    return tensors


_BROKEN_FILE = (KeyError, OSError, RuntimeError, TypeError, ValueError)
"""Errors of h5py and PyTorch if the lists and the arrays of a file don't match."""


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        weights = file.get("model_weights", file)
        for layer in _strings(weights, "layer_names"):
            for name in _strings(weights[layer], "weight_names"):
                yield _to_pytorch(name, torch.from_numpy(weights[layer][name][()]))


def _strings(group: Any, attribute: str) -> list[str]:
    """Return a list of names; Keras splits a list too long for HDF5 into numbered pieces."""
    pieces = [name for name in group.attrs if name.rstrip("0123456789") == attribute]
    pieces.sort(key=lambda name: int(name.removeprefix(attribute) or 0))
    names = [name for piece in pieces for name in group.attrs[piece]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _to_pytorch(name: str, values: Tensor) -> tuple[str, Tensor]:
    layer, _, keras_name = name.removesuffix(":0").rpartition("/")
    pytorch_name, move_axes = _PYTORCH_NAMES.get(keras_name, (keras_name, _identity))
    return f"{layer}/{pytorch_name}", move_axes(values).contiguous()
