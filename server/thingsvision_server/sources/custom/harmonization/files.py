"""Reads weights that Keras 2 saved, turned as PyTorch has them; knows no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....errors import InvalidWeightsError
from ...uploads.hdf5 import HDF5_MAGIC, check_hdf5
from ...weights.state_dicts import StateDict, read_state_dict


def _as_it_is(values: Tensor) -> Tensor:
    return values


def _kernel(values: Tensor) -> Tensor:
    """Return height x width x inputs x outputs (inputs x outputs) with outputs, inputs first."""
    return values.permute(3, 2, 0, 1) if values.ndim == 4 else values.T


def _depthwise_kernel(values: Tensor) -> Tensor:
    """Return height x width x channels x 1 as channels x 1 x height x width."""
    return values.permute(2, 3, 0, 1)


_OWN_NAMES: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "kernel": ("weight", _kernel),
    "depthwise_kernel": ("weight", _depthwise_kernel),
    "gamma": ("weight", _as_it_is),
    "beta": ("bias", _as_it_is),
    "moving_mean": ("running_mean", _as_it_is),
    "moving_variance": ("running_var", _as_it_is),
}
"""A tensor's own name in Keras: that in PyTorch, and how its axes are put there."""


def read_weights(path: Path, *, mapped: bool = False) -> StateDict:
    """Return the tensors of a file of Keras 2, weights or a whole model; or of a PyTorch file.

    Those of Keras are called `layer/name`, the name being PyTorch's where it has one.
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
        sentence = f"{path.name} lists no layers: it is not in the layout of Keras 2"
        raise InvalidWeightsError(sentence, subject=path.name)
    return tensors


_BROKEN_FILE = (KeyError, OSError, RuntimeError, TypeError, ValueError)
"""What h5py and PyTorch raise where the lists and the arrays of a file don't fit together."""


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        weights = file.get("model_weights", file)
        for layer in _strings(weights, "layer_names"):
            for name in _strings(weights[layer], "weight_names"):
                yield _converted(name, torch.from_numpy(weights[layer][name][()]))


def _strings(group: Any, attribute: str) -> list[str]:
    """Return a list of names; Keras parts one that is too long for HDF5 into numbered pieces."""
    pieces = [name for name in group.attrs if name.rstrip("0123456789") == attribute]
    pieces.sort(key=lambda name: int(name.removeprefix(attribute) or 0))
    names = [name for piece in pieces for name in group.attrs[piece]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _converted(name: str, values: Tensor) -> tuple[str, Tensor]:
    layer, _, own = name.removesuffix(":0").rpartition("/")
    called, turned = _OWN_NAMES.get(own, (own, _as_it_is))
    return f"{layer}/{called}", turned(values).contiguous()
