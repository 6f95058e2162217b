"""Checks that a whole Keras model contains only layers of Keras, without importing TensorFlow.

Its configuration, in the `config.json` of a `.keras` archive or an attribute of an `.h5` file,
names the classes to build. A Lambda layer contains code, a custom class needs
it, and some of Keras' own classes run or read what their settings name.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ...errors import InvalidWeightsError
from .hdf5 import HDF5_MAGIC, check_arrays, find_longest, read_text

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MEMBERS = frozenset({CONFIG, METADATA, WEIGHTS})
_MAX_CONFIG_BYTES = 16 * 1024 * 1024
_MAX_METADATA_BYTES = 1024 * 1024
_MAX_CLASSES = 100_000
"""Parts of a config that name a class; the largest network of Keras has 5,000, in 1 MB."""

_SIZES = frozenset(
    ["depth_multiplier", "filters", "input_dim", "key_dim", "num_heads", "output_dim", "units"]
)
"""Settings of layers that are the size of an axis of their weights."""

_MODULES = (
    "activations",
    "constraints",
    "dtype_policies",
    "initializers",
    "layers",
    "models",
    "ops",
    "regularizers",
)
"""Modules of Keras whose classes make up networks."""

_REFUSED: Mapping[str, str] = {
    "Lambda": "contains Python code",
    "__lambda__": "is Python code",
    "TorchModuleWrapper": "contains a pickled module",
    "TFSMLayer": "runs a SavedModel from elsewhere",
    "JaxLayer": "contains a function",
    "FlaxLayer": "contains a function",
    "StringLookup": "may read a file",
    "IntegerLookup": "may read a file",
    "TextVectorization": "may read a file",
}

_PLAIN = frozenset({"__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"})
"""Class names that stand for values, not for classes of a module."""

_NOT_BUILT = frozenset({"build_config", "compile_config"})
"""Parts that describe how a model was trained; they are not read."""


def check_keras_model(path: Path, called: str) -> None:
    """Raise InvalidWeightsError if a `.keras` or `.h5` file is broken or names a refused class."""
    with path.open("rb") as file:
        is_hdf5 = file.read(len(HDF5_MAGIC)) == HDF5_MAGIC
    if is_hdf5:
        _check_keras_hdf5(path, called)
    else:
        check_keras_archive(path, called)


def _check_keras_hdf5(path: Path, called: str) -> None:
    longest = find_longest(path, called)
    try:
        text = read_text(path, "model_config")
        _check_size(called, "model_config", len(text), _MAX_CONFIG_BYTES)
        _check_config(json.loads(text), called, longest, is_of_keras_2=True)
        check_arrays(longest, called)
    except (OSError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        raise _invalid(called, f"it is broken: {error}") from error


def check_keras_archive(path: Path, called: str) -> None:
    """Raise InvalidWeightsError if an archive is broken or names a refused class."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, called)
            config = json.loads(archive.read(CONFIG))
            with _open_weights(archive) as weights:
                longest = find_longest(weights, f"{WEIGHTS} in {called}")
            _check_config(config, called, longest)
            check_arrays(longest, f"{WEIGHTS} in {called}")
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, RecursionError) as error:
        raise _invalid(called, f"it is broken: {error}") from error


def _check_members(archive: zipfile.ZipFile, called: str) -> None:
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise _invalid(called, "it contains two files of the same name")
    if unexpected := sorted(set(names) - _MEMBERS):
        raise _invalid(
            called, f"it contains files that are not part of a model: {', '.join(unexpected[:5])}"
        )
    most = {CONFIG: _MAX_CONFIG_BYTES, METADATA: _MAX_METADATA_BYTES}
    for member in archive.infolist():
        limit = most.get(member.filename, member.file_size)
        _check_size(called, member.filename, member.file_size, limit)


def _check_size(called: str, name: str, size: int, most: int) -> None:
    if size > most:
        raise _invalid(called, f"its {name} has {size:,} bytes, and at most {most:,} are read")


def _open_weights(archive: zipfile.ZipFile) -> IO[bytes]:
    """Open the weights; unpacked in memory if they are packed, as HDF5 reads back and forth."""
    if archive.getinfo(WEIGHTS).compress_type == zipfile.ZIP_STORED:
        return archive.open(WEIGHTS)
    return io.BytesIO(archive.read(WEIGHTS))


def _check_config(config: Any, called: str, longest: int, *, is_of_keras_2: bool = False) -> None:
    """Raise InvalidWeightsError if a config names a refused class, or a size without weights."""
    _check_inputs(config, called)
    for number, (place, member) in enumerate(_classes(config, "")):
        if number >= _MAX_CLASSES:
            raise _invalid(called, f"its config names more than {_MAX_CLASSES:,} classes")
        _check_class(called, place, member, is_of_keras_2=is_of_keras_2)
        _check_sizes(called, place, member, longest)


def _check_sizes(called: str, place: str, part: Mapping[str, Any], longest: int) -> None:
    settings = part.get("config")
    if not isinstance(settings, dict):
        return
    for name in _SIZES.intersection(settings):
        size = settings[name]
        if isinstance(size, int | float) and size > longest:
            raise _invalid(
                called,
                f"`{name}` of layer {place!r} must be the size of an axis of its weights, and the "
                f"longest axis in the file has {longest:,}, got {size:,}",
            )


def _check_inputs(config: Any, called: str) -> None:
    """Raise InvalidWeightsError if a functional network has several inputs."""
    settings = config.get("config") if isinstance(config, dict) else None
    given = settings.get("input_layers") if isinstance(settings, dict) else None
    if isinstance(given, list) and given and isinstance(given[0], str):
        return  # a single input is not in a list
    names = list(given) if isinstance(given, dict) else [str(one[0]) for one in given or ()]
    if len(names) > 1:
        raise _invalid(
            called,
            f"it must have one input, the image, got {len(names)}: {', '.join(names)}",
        )


def _classes(part: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each part of the config that names a class, with the name of its layer."""
    if isinstance(part, list):
        for entry in part:
            yield from _classes(entry, place)
    if isinstance(part, dict):
        if "class_name" in part:
            settings = part.get("config")
            named = settings.get("name") if isinstance(settings, dict) else None
            place = str(part.get("name") or named or place)
            yield place, part
        for key, entry in part.items():
            if key not in _NOT_BUILT:
                yield from _classes(entry, place)


def _check_class(
    called: str, place: str, part: Mapping[str, Any], *, is_of_keras_2: bool = False
) -> None:
    name, module = str(part["class_name"]), part.get("module")
    registered = part.get("registered_name")
    where = f"layer {place!r}" if place else "its model"
    if name in _REFUSED:
        raise _refusal(called, place, f"{where} ({name}) {_REFUSED[name]}")
    if name in _PLAIN:
        return
    # Keras 2 names its classes without a module, and Keras finds these in its own tables only.
    if is_of_keras_2 and module is None and registered is None and name.isidentifier():
        return
    if not _is_of_keras(module, name) or ">" in str(registered or ""):
        kind = registered or (f"{module}.{name}" if module else name)
        raise _refusal(called, place, f"{where} is of the custom class {kind!r}")


def _is_of_keras(module: Any, name: str) -> bool:
    if module == "keras":
        return name in ("DTypePolicy", "Functional", "Model", "Sequential")
    roots = (f"keras.{part}" for part in _MODULES), (f"keras.src.{part}" for part in _MODULES)
    return any(module == one or str(module).startswith(f"{one}.") for some in roots for one in some)


def _invalid(called: str, why: str) -> InvalidWeightsError:
    return InvalidWeightsError(f"{called} is not a usable Keras model: {why}")


def _refusal(called: str, place: str, why: str) -> InvalidWeightsError:
    return InvalidWeightsError(
        f"{called} is rejected: {why}, and the server never runs users' code. Build the network "
        "from Keras' own layers and save it again, or upload only its weights (.weights.h5)",
        subject=place,
    )
