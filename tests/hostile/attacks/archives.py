"""Files of weights and models that announce much more than their bytes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from support.written_programs import archive, node
from thingsvision_client import Client
from thingsvision_client.errors import InvalidWeightsError

from .registry import Target, attack


def _packed_program() -> bytes:
    """Return a program of 200 KB with 200 MB of JSON."""
    return archive(b" " * 200_000_000, compression=zipfile.ZIP_DEFLATED)


def _shared_program() -> bytes:
    """Return a program of which a thousand files are the same bytes."""
    file = io.BytesIO(archive([node("relu.default", "y", self="x")]))
    with zipfile.ZipFile(file, "a") as written:
        written.writestr("net/data/weights/weight_0", bytes(1_000_000))
        first = written.getinfo("net/data/weights/weight_0")
        for number in range(1, 1000):
            member = zipfile.ZipInfo(f"net/data/weights/weight_{number}")
            member.header_offset = first.header_offset
            member.CRC, member.file_size = first.CRC, first.file_size
            member.compress_size = first.compress_size
            written.filelist.append(member)
    return file.getvalue()


def keras_archive(config: bytes, weights: bytes, *, is_packed: bool = False) -> bytes:
    file = io.BytesIO()
    compression = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", compression) as written:
        written.writestr("config.json", config)
        written.writestr("metadata.json", b"{}")
        written.writestr("model.weights.h5", weights)
    return file.getvalue()


def hdf5(write: Callable[[Any], None]) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        write(file)
    return content.getvalue()


def small_weights(file: Any) -> None:
    file["layers/dense/vars/0"] = np.zeros((3, 5), np.float32)


def keras_config(**settings: Any) -> bytes:
    layer = {"class_name": "Dense", "module": "keras.layers", "config": {"name": "d", **settings}}
    network = {"class_name": "Sequential", "module": "keras", "config": {"layers": [layer]}}
    return json.dumps(network).encode()


def _groups_in_each_other(file: Any) -> None:
    groups = [file.create_group(f"g{number}") for number in range(26)]
    for group in groups:
        for number, other in enumerate(groups):
            group[f"l{number}"] = other
    small_weights(file)


def _groups_of_many_names(file: Any) -> None:
    """Write 60 groups in a row, each of which has the next twice: 2^60 ways to the last."""
    group = file
    for _ in range(60):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner
    small_weights(file)
    group["w"] = np.zeros(3, np.float32)


def _arrays_without_values(file: Any) -> None:
    file.create_dataset("w", (10**6, 10**6), np.float32, chunks=(1000, 1000))


def _dicts_in_dicts() -> bytes:
    inner: dict[str, Any] = {"w": torch.ones(1)}
    for _ in range(5):
        inner = {str(number): inner for number in range(50)}
    file = io.BytesIO()
    torch.save(inner, file)
    return file.getvalue()


FILES: Mapping[str, Callable[[], bytes]] = {
    "packed.pt2": _packed_program,
    "shared.pt2": _shared_program,
    "config.keras": lambda: keras_archive(
        b"[" + b"{}," * 20_000_000 + b"{}]", hdf5(small_weights), is_packed=True
    ),
    "units.keras": lambda: keras_archive(keras_config(units=10**9), hdf5(small_weights)),
    "circle.weights.h5": lambda: hdf5(_groups_in_each_other),
    "empty.weights.h5": lambda: hdf5(_arrays_without_values),
    "dicts.pth": _dicts_in_dicts,
}


@attack()
def files_larger_than_their_bytes(target: Target) -> None:
    """Upload KB that would be GB: packed or shared files, and arrays, links and layers alone."""
    for name, content in FILES.items():
        path = Path(target.folder / name)
        path.write_bytes(content())
        with Client(target.address) as client, pytest.raises(InvalidWeightsError):
            client.upload_weights(path)


@attack()
def groups_of_many_names(target: Target) -> None:
    """Upload Keras weights whose groups have two names each: 2^60 ways to the last array."""
    path = target.folder / "names.weights.h5"
    path.write_bytes(hdf5(_groups_of_many_names))
    with Client(target.address) as client:
        client.delete_upload(client.upload_weights(path))
