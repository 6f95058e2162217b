"""The formats of uploaded files, detected from their content and checked without running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import InvalidWeightsError
from .archive_sizes import list_archive
from .hdf5 import HDF5_MAGIC, attribute_names, check_hdf5

_ZIP_MAGIC, _PICKLE_MAGIC, _ONNX_MAGIC = b"PK\x03\x04", b"\x80", b"\x08"
_KERAS_MEMBERS = frozenset({"config.json", "model.weights.h5"})


@dataclass(frozen=True)
class _Start:
    """The first bytes of a file, and the names in it where it is a zip archive."""

    start: bytes
    members: frozenset[str]
    attributes: frozenset[str]
    """The names of the file's attributes where it is an HDF5 file."""


@dataclass(frozen=True)
class FileFormat:
    """One format: how it is detected and checked."""

    description: str
    matches: Callable[[_Start], bool]
    check: Callable[[Path, str], None]
    """Called with the file and the name for it in errors; raises InvalidWeightsError."""
    is_model: bool = False
    """Whether it contains a complete model, not only the weights of a known one."""


def _check_state_dict(path: Path, called: str) -> None:
    from ..weights.state_dicts import read_checkpoint, state_dict_in
    from ..weights.tensor_table import TensorTable

    checkpoint = read_checkpoint(path, called, mapped=True)
    state_dict_in(checkpoint, called)
    TensorTable(checkpoint, path, called)


def _check_hdf5(path: Path, called: str) -> None:
    check_hdf5(path, called)


def _check_keras(path: Path, called: str) -> None:
    from .keras_archive import check_keras_model

    check_keras_model(path, called)


def _check_exported(path: Path, called: str) -> None:
    from .exported_check import read_program

    read_program(path, called)


def _check_onnx(path: Path, called: str) -> None:
    from .onnx_check import check_onnx

    check_onnx(path, called)


def _is_hdf5(file: _Start) -> bool:
    return file.start.startswith(HDF5_MAGIC)


def _is_keras_hdf5(file: _Start) -> bool:
    return "model_config" in file.attributes


def _is_safetensors(file: _Start) -> bool:
    # The file begins with the length of its JSON header, then the header itself.
    return file.start[8:9] == b"{"


def _is_exported(file: _Start) -> bool:
    return any(name.endswith("/archive_format") for name in file.members) or (
        "serialized_exported_program.json" in file.members
    )


def _is_torch(file: _Start) -> bool:
    return file.start.startswith((_ZIP_MAGIC, _PICKLE_MAGIC))


FORMATS: Mapping[str, FileFormat] = {
    "safetensors": FileFormat("safetensors", _is_safetensors, _check_state_dict),
    "keras-hdf5": FileFormat(
        "whole Keras model (.h5)", _is_keras_hdf5, _check_keras, is_model=True
    ),
    "hdf5": FileFormat("Keras weights (.weights.h5)", _is_hdf5, _check_hdf5),
    "keras": FileFormat(
        "Keras model (.keras)",
        lambda file: file.members >= _KERAS_MEMBERS,
        _check_keras,
        is_model=True,
    ),
    "pt2": FileFormat("torch.export program (.pt2)", _is_exported, _check_exported, is_model=True),
    "torch": FileFormat("torch file of a state dict", _is_torch, _check_state_dict),
    "onnx": FileFormat(
        "ONNX model", lambda file: file.start.startswith(_ONNX_MAGIC), _check_onnx, is_model=True
    ),
}
"""The first format that matches wins."""


def format_of(path: Path) -> str:
    """Return the key of a file's format; empty if none matches."""
    try:
        return _format_of(_read_start(path, path.name))
    except InvalidWeightsError:
        return ""


def _format_of(start: _Start) -> str:
    return next((key for key, one in FORMATS.items() if one.matches(start)), "")


def check_file(path: Path, called: str) -> str:
    """Return the key of a file's format; raise InvalidWeightsError if it can't be used."""
    key = _format_of(_read_start(path, called))
    if not key:
        valid = ", ".join(one.description for one in FORMATS.values())
        sentence = f"the format of {called} is unknown. Valid: {valid}"
        raise InvalidWeightsError(sentence, subject=called)
    FORMATS[key].check(path, called)
    return key


def _read_start(path: Path, called: str) -> _Start:
    with path.open("rb") as file:
        start = file.read(16)
    names = list_archive(path, called) if start.startswith(_ZIP_MAGIC) else []
    attributes = attribute_names(path) if start.startswith(HDF5_MAGIC) else frozenset()
    return _Start(start, frozenset(names), attributes)
