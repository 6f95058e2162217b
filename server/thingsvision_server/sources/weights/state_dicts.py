"""Reads state dicts without running code, and loads them into networks."""

from __future__ import annotations

import itertools
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
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

DEEPEST = 4
"""How many keys lead to a state dict at most."""

_MOST_PLACES = 2_000_000
_MOST_FOUND = 2_000_000
"""How many tensors the state dicts of a checkpoint may have, a tensor in several counted again."""


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
    return state_dict_in(read_checkpoint(path, called, mapped=mapped), called or path.name)


def read_checkpoint(path: Path, called: str = "", *, mapped: bool = False) -> Any:
    """Return all that a safetensors or torch file contains, as `read_state_dict` reads it."""
    return _reader(path)(path, called or path.name, mapped)


def state_dict_in(checkpoint: Any, called: str) -> StateDict:
    """Return the state dict of a checkpoint that has any, the averaged one if there are several.

    Raises InvalidWeightsError if it has none.
    """
    _, loaded = _unwrap(checkpoint)
    if not _is_state_dict(loaded):
        found = state_dicts_in(checkpoint)
        if not found:
            raise InvalidWeightsError(
                f"{called} must contain a state dict (a mapping of names to tensors). Save "
                "`model.state_dict()`",
                subject=called,
            )
        return max(found.values(), key=len)
    return _only_tensors(loaded)


def usual_keys(checkpoint: Any) -> tuple[str, ...]:
    """Return the keys that lead to a state dict where libraries publish weights."""
    return _unwrap(checkpoint)[0]


def _unwrap(checkpoint: Any) -> tuple[tuple[str, ...], Any]:
    keys: tuple[str, ...] = ()
    for wrapper in _WRAPPERS:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(wrapper), Mapping):
            keys, checkpoint = (*keys, wrapper), checkpoint[wrapper]
    return keys, checkpoint


def state_dicts_in(checkpoint: Any) -> dict[tuple[str, ...], StateDict]:
    """Return every state dict of a checkpoint, by the keys that lead to it.

    Raises InvalidWeightsError if there are too many places to look: a dict may be in many others.
    """
    found: dict[tuple[str, ...], StateDict] = {}
    count = 0
    for keys, state in _state_dicts(checkpoint, (), itertools.count(1)):
        count += len(state)
        if count > _MOST_FOUND:
            raise InvalidWeightsError(
                f"the state dicts in a checkpoint must have at most {_MOST_FOUND:,} tensors, "
                "got more. Save `model.state_dict()`"
            )
        found[keys] = state
    return found


def _state_dicts(
    part: Any, keys: tuple[str, ...], places: Iterator[int]
) -> Iterator[tuple[tuple[str, ...], StateDict]]:
    if not isinstance(part, Mapping) or len(keys) > DEEPEST:
        return
    if _is_state_dict(part):
        yield keys, _only_tensors(part)
    for key, entry in part.items():
        if next(places) > _MOST_PLACES:
            raise InvalidWeightsError(
                f"a checkpoint must have at most {_MOST_PLACES:,} entries in the dicts in its "
                "dicts, got more. Save `model.state_dict()`"
            )
        if isinstance(key, str) and isinstance(entry, Mapping):
            yield from _state_dicts(entry, (*keys, key), places)


def _is_state_dict(part: Any) -> bool:
    return isinstance(part, Mapping) and any(
        isinstance(name, str) and _is_tensor(value) for name, value in part.items()
    )


def _only_tensors(part: Mapping[str, Any]) -> StateDict:
    """Return the tensors of a state dict; training code adds numbers, such as the epoch."""
    tensors = {name: value for name, value in part.items() if _is_tensor(value)}
    version = version_of(part)
    return tensors if version is None else VersionedState(tensors, version)


def version_of(part: Any) -> int | None:
    """Return the version of a network's class that its state dict has, if it has any."""
    metadata = getattr(part, "_metadata", None)
    of_network = metadata.get("") if isinstance(metadata, Mapping) else None
    version = of_network.get("version") if isinstance(of_network, Mapping) else None
    return version if isinstance(version, int) else None


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
    mapped = mapped and _start(path).startswith(_ZIP) and _is_as_in_memory(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    # PyTorch's own messages advise running the code.
    except pickle.UnpicklingError as error:
        raise InvalidWeightsError(_describe_pickle(name, str(error)), subject=name) from error
    except _BROKEN_FILE as error:
        is_script = "TorchScript" in str(error)
        sentence = f"{name} is {_SCRIPT if is_script else _NOT_OF_TORCH}"
        raise InvalidWeightsError(sentence, subject=name) from error


def _is_as_in_memory(path: Path) -> bool:
    """Return whether an archive's tensors are in the file as in memory: not packed, nor reversed.

    PyTorch maps packed bytes as if they were values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            orders = [one for one in members if one.filename.endswith("/byteorder")]
            order = archive.read(orders[0]).decode() if orders else sys.byteorder
    except (*_BROKEN_FILE, zipfile.BadZipFile, NotImplementedError):
        return True  # PyTorch says what is wrong
    is_packed = any(one.compress_type != zipfile.ZIP_STORED for one in members)
    return not is_packed and order == sys.byteorder


def _describe_pickle(name: str, reason: str) -> str:
    """Return the sentence about a file that could only be read by running code."""
    found = _CLASS.search(reason)
    if found is None:
        return (
            f"{name} is not a state dict that can be read without running code: it is not a "
            "safetensors or torch file, or it contains pickled objects. Save "
            "`model.state_dict()` or a safetensors file instead"
        )
    return (
        f"{name} is not a state dict that can be read without running code: it contains pickled "
        f"objects, of the class {found[1]}. Save only tensors: `model.state_dict()`, or of a file "
        "that you trust torch.save(torch.load(path, weights_only=False)['state_dict'], new_path), "
        "with its own key. A network in your process can be sent with get_extractor_from_model"
    )


_CLASS = re.compile(r"GLOBAL ([\w.]+)")
"""Finds the class that PyTorch did not want to unpickle, in its message."""

_NOT_OF_TORCH = (
    "neither a safetensors nor a torch file, or it is broken, such as a download that was cut "
    "short. Save it again: torch.save(model.state_dict(), path)"
)

_ZIP = b"PK\x03\x04"

_SCRIPT = (
    "a TorchScript archive, which contains code and is not read here: save the `state_dict()` of "
    "its module, or use the same weights as safetensors"
)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)
