"""Reads state dicts without running code, and fills networks with them.

Knows neither where files lie nor any architecture.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import InvalidWeightsError

if TYPE_CHECKING:
    from torch import nn

StateDict = dict[str, Any]

_BROKEN_FILE = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What `torch.load` raises where the bytes make no sense to it."""

_WRAPPERS = (
    "classy_state_dict",
    "base_model",
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model",
    "trunk",
    "encoder",
)
"""What checkpoints keep a state dict under; one may lie in another, in this order."""


class FileReader(Protocol):
    """What reads the tensors of a file."""

    def __call__(self, path: Path, /, *, mapped: bool = False) -> StateDict:
        """Return them, in the file itself where it may be `mapped` into memory."""


def read_state_dict(path: Path, called: str = "", *, mapped: bool = False) -> StateDict:
    """Return the tensors of a safetensors or torch file, on the CPU.

    They lie in memory of their own, so that whoever writes a new file in the place of this one
    changes no model. One that nobody ever changes may be `mapped`: its tensors then lie in it.

    Nothing in the file is executed: a torch file with anything but tensors and plain
    containers is refused with InvalidWeightsError, which names the file as `called` or its name.
    """
    name = called or path.name
    loaded = _reader(path)(path, name, mapped)
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(_is_tensor(v) for v in loaded.values()):
        raise InvalidWeightsError(
            f"{name} holds no state dict (a mapping of names to tensors)", subject=name
        )
    version = getattr(loaded, "_metadata", {}).get("", {}).get("version")
    return dict(loaded) if version is None else VersionedState(loaded, version)


class VersionedState(StateDict):
    """A state dict that tells the version of its network's class, as PyTorch's files do.

    Versions of layers are left out: checkpoints of other times and makers are then taken alike.
    """

    def __init__(self, tensors: Mapping[str, Any], version: int) -> None:
        super().__init__(tensors)
        self._metadata = {"": {"version": version}}


def with_version(state: StateDict, newest: int) -> VersionedState:
    """Return a state dict that tells a version: where its file did not, that is the newest."""
    return state if isinstance(state, VersionedState) else VersionedState(state, newest)


def load_state(network: nn.Module, state: StateDict) -> nn.Module:
    """Return the network with these tensors in it; raise RuntimeError where they are not its."""
    network.load_state_dict(with_version(state, network._version))  # noqa: SLF001 - where it is told
    return network


def _reader(path: Path) -> Callable[[Path, str, bool], Any]:
    # A safetensors file begins with the length of its JSON header, then that header.
    return _read_safetensors if _start(path)[8:9] == b"{" else _read_torch


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(9)


def _read_safetensors(path: Path, name: str, mapped: bool) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ...backends.torch.copying import copy_in_thread

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        sentence = f"{name} is no valid safetensors file: {error}"
        raise InvalidWeightsError(sentence, subject=name) from error
    return tensors if mapped else {key: copy_in_thread(tensor) for key, tensor in tensors.items()}


def _read_torch(path: Path, name: str, mapped: bool) -> Any:
    import torch

    # PyTorch maps its zip archives only, not what it wrote before version 1.6.
    mapped = mapped and _start(path).startswith(_ZIP)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0]
        raise InvalidWeightsError(
            f"{name} is no state dict that can be read without running code: it is not a "
            f"safetensors or torch file, or it holds pickled objects ({reason}). "
            "Save `model.state_dict()` or a safetensors file instead",
            subject=name,
        ) from error
    except _BROKEN_FILE as error:
        # PyTorch's own sentence advises to run the code.
        is_script = "TorchScript" in str(error)
        what = _SCRIPT if is_script else f"no safetensors or torch file, or it is broken: {error}"
        raise InvalidWeightsError(f"{name} is {what}", subject=name) from error


_ZIP = b"PK\x03\x04"

_SCRIPT = (
    "a TorchScript archive, which holds code and is not read here: save the `state_dict()` of "
    "what is in it, or take the same weights as safetensors"
)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)
