"""Reads state dicts without running code, and loads them into networks."""

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
"""What `torch.load` raises if it can't make sense of the bytes."""

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
"""Keys under which checkpoints keep a state dict; they may be nested, in this order."""


class FileReader(Protocol):
    """A function that reads the tensors of a file."""

    def __call__(self, path: Path, /, *, mapped: bool = False) -> StateDict:
        """Return the tensors; if `mapped`, they may be memory-mapped from the file."""


def read_state_dict(path: Path, called: str = "", *, mapped: bool = False) -> StateDict:
    """Return the tensors of a safetensors or torch file, on the CPU.

    They are copied into memory, so that overwriting the file changes no loaded model. A file that
    never changes may be `mapped`: its tensors then stay in the file.

    Nothing in the file is executed: a torch file that contains anything but tensors and plain
    containers raises InvalidWeightsError, which calls the file `called`, or else by its name.
    """
    name = called or path.name
    loaded = _reader(path)(path, name, mapped)
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(_is_tensor(v) for v in loaded.values()):
        raise InvalidWeightsError(
            f"{name} must contain a state dict (a mapping of names to tensors)", subject=name
        )
    version = getattr(loaded, "_metadata", {}).get("", {}).get("version")
    return dict(loaded) if version is None else VersionedState(loaded, version)


class VersionedState(StateDict):
    """A state dict with the version of its network's class, as in PyTorch's files.

    The versions of layers are left out, so that checkpoints of any age and origin load alike.
    """

    def __init__(self, tensors: Mapping[str, Any], version: int) -> None:
        super().__init__(tensors)
        self._metadata = {"": {"version": version}}


def with_version(state: StateDict, newest: int) -> VersionedState:
    """Return a state dict with a version: its file's, or else the newest."""
    return state if isinstance(state, VersionedState) else VersionedState(state, newest)


def load_state(network: nn.Module, state: StateDict) -> nn.Module:
    """Return the network with these tensors loaded; raise RuntimeError if they don't fit it."""
    network.load_state_dict(with_version(state, network._version))  # noqa: SLF001
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
        sentence = f"{name} is not a valid safetensors file: {error}"
        raise InvalidWeightsError(sentence, subject=name) from error
    return tensors if mapped else {key: copy_in_thread(tensor) for key, tensor in tensors.items()}


def _read_torch(path: Path, name: str, mapped: bool) -> Any:
    import torch

    # PyTorch can map only its zip archives, not the format that it wrote before version 1.6.
    mapped = mapped and _start(path).startswith(_ZIP)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0]
        raise InvalidWeightsError(
            f"{name} is not a state dict that can be read without running code: it is not a "
            f"safetensors or torch file, or it contains pickled objects ({reason}). "
            "Save `model.state_dict()` or a safetensors file instead",
            subject=name,
        ) from error
    except _BROKEN_FILE as error:
        # PyTorch's own message advises running the code.
        is_script = "TorchScript" in str(error)
        what = (
            _SCRIPT if is_script else f"not a safetensors or torch file, or it is broken: {error}"
        )
        raise InvalidWeightsError(f"{name} is {what}", subject=name) from error


_ZIP = b"PK\x03\x04"

_SCRIPT = (
    "a TorchScript archive, which contains code and is not read here: save the `state_dict()` of "
    "its module, or use the same weights as safetensors"
)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)
