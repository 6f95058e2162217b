"""Mutated files of weights and whole models: each is stored as it would be, or refused.

They go the way of an upload: guests check them, and load and run those of which they find nothing
bad. A guest may die of them; whoever asks it gets a refusal.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest
import torch
from onnx import helper
from safetensors.torch import save

from hostile.attacks.archives import hdf5, keras_archive, keras_config, small_weights
from hostile.attacks.onnx_graphs import model_of, nested_functions
from support.checkout import SUPPORT
from support.fuzzing import Fuzz, fuzz, json_mutations
from support.own_files import onnx_file
from support.own_networks import network
from support.written_programs import archive, node, program
from thingsvision_server.backends.children import guests as guests_module
from thingsvision_server.backends.children.guests import GuestRuntime
from thingsvision_server.backends.tensorflow.model import TensorFlowRuntime
from thingsvision_server.errors import DeviceMemoryError, InvalidRequestError
from thingsvision_server.sources.own.keras_models import KerasModelFile
from thingsvision_server.sources.own.trial import check_usable
from thingsvision_server.sources.uploads.guests import check_upload
from thingsvision_server.sources.uploads.records import UploadRecord

__all__ = ["fuzz"]

PASS_SECONDS, RESTART = 20.0, 500


class Road:
    """The way of an upload, for one file after another at one place."""

    def __init__(self, folder: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.most_bytes = 0
        self.guests = GuestRuntime()
        self._tensorflow = TensorFlowRuntime(sys.executable)
        self._path = folder / "file"

    def offer(self, content: bytes) -> None:
        """Check a file, and try the model in it."""
        self._path.write_bytes(content)
        found = "refused"
        is_tried = False
        try:
            kind = check_upload(self._path, "a file", self.guests)
            is_tried = kind in ("pt2", "onnx")
            record = UploadRecord("0" * 64, len(content), kind, 0.0)
            check_usable(self._path, record, self._tensorflow, self.guests)
            found = f"stored as {kind}"
        except (InvalidRequestError, DeviceMemoryError) as error:
            if "the process of a file" in str(error):
                found = "ended its guest"
        finally:
            self.counts[found] += 1
            self._measure()
            # A guest keeps the program that it opened.
            if is_tried or not self.counts.total() % RESTART:
                self.guests.forget(self._path)

    def describe(self, content: bytes) -> None:
        """Check a Keras model, and let Keras build it."""
        self._path.write_bytes(content)
        found = "refused"
        try:
            KerasModelFile(self._path, "a file", self._tensorflow, self.guests)
            found = "described"
        except (InvalidRequestError, DeviceMemoryError) as error:
            if "the process of a file" in str(error):
                found = "ended its guest"
        finally:
            self.counts[found] += 1
            self._measure()
            if not self.counts.total() % RESTART:
                self.guests.forget(self._path)

    def _measure(self) -> None:
        if self.counts.total() % 16 == 0:
            sizes = map(_resident_bytes, psutil.Process().children(recursive=True))
            self.most_bytes = max(self.most_bytes, *sizes, 0)

    def close(self) -> None:
        """End all guests, and print what was found."""
        self.guests.close()
        print(f"{dict(self.counts)}; a guest: {self.most_bytes / 1e6:.0f} MB at most")


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    """Limits of small files: what a mutation makes endless ends in seconds."""
    monkeypatch.setattr(guests_module, "_FREE_SHARE", 0.0)
    monkeypatch.setattr(guests_module, "_BUILD_SECONDS", PASS_SECONDS)
    opened = Road(tmp_path)
    yield opened
    opened.close()


# ---------------------------------------------------------------- real files


def onnx_models(folder: Path) -> list[bytes]:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Slice", ["flat", "start", "stop"], ["part"]),
        helper.make_node("Softmax", ["part"], ["y"], axis=1),
    ]
    ranges = {"shape": np.array([0, -1]), "start": np.array([0]), "stop": np.array([2])}
    return [
        onnx_file(network(0), folder / "net.onnx").read_bytes(),
        nested_functions(2),
        model_of(nodes, ranges),
    ]


PROGRAMS = [
    program([node("relu.default", "y", self="x")]),
    program(
        [
            node("max_pool2d.default", "pooled", self="x", kernel_size=[2, 2], stride=[2, 2],
                 padding=[0, 0], dilation=[1, 1], ceil_mode=False),
            node("mean.dim", "mean", self="pooled", dim=[2, 3], keepdim=False),
            node("add.Tensor", "y", self="mean", other="mean"),
        ]
    ),
]  # fmt: skip
CONFIG = json.loads(keras_config(units=5, activation="relu", use_bias=True))


def whole_keras() -> bytes:
    """Return a whole model in HDF5, as Keras 2 writes it."""

    def write(file: h5py.File) -> None:
        small_weights(file)
        file.attrs["model_config"] = json.dumps(CONFIG)
        file.attrs["keras_version"] = "2.15.0"

    return hdf5(write)


def packed_weights(file: h5py.File) -> None:
    values = np.arange(600, dtype=np.float32).reshape(20, 30)
    file.create_dataset("a/w", data=values, chunks=(5, 30), compression="gzip", shuffle=True)
    file.create_dataset("a/names", data=["one", "two"], dtype=h5py.string_dtype())
    file["a/empty"] = h5py.Empty("f")
    file["a"].attrs["weight_names"] = np.array([b"w", b"names"])


def torch_files() -> list[bytes]:
    state = {"state_dict": network(0).state_dict(), "epoch": 3}
    files = [io.BytesIO(), io.BytesIO()]
    torch.save(state, files[0])
    torch.save(state, files[1], _use_new_zipfile_serialization=False)
    return [file.getvalue() for file in files]


def half_and_whole() -> list[bytes]:
    state = {"a": torch.ones(3, 2), "b": torch.zeros(4, dtype=torch.float16)}
    return [save(state), save({"long": torch.arange(5)}, metadata={"format": "pt"})]


FILES: dict[str, tuple[Callable[[Path], list[bytes]], int]] = {
    "ONNX": (onnx_models, 150),
    "programs": (lambda _: [archive(one) for one in PROGRAMS], 100),
    "HDF5": (lambda _: [hdf5(small_weights), hdf5(packed_weights), whole_keras()], 300),
    "Keras": (
        lambda _: [
            keras_archive(json.dumps(CONFIG).encode(), hdf5(small_weights), is_packed=packed)
            for packed in (False, True)
        ],
        100,
    ),
    "safetensors": (lambda _: half_and_whole(), 150),
    "torch": (lambda _: torch_files(), 150),
}


EXPORTERS = {"programs": ("own_networks.py", "*.pt2"), "Keras": ("keras_files.py", "*.keras"),
             "HDF5": ("keras_files.py", "*.h5")}  # fmt: skip
"""What writes files by the frameworks' own exporters, which takes seconds, and which files."""


@pytest.mark.parametrize("kind", FILES)
def test_a_mutated_file_is_stored_or_refused(
    fuzz: Fuzz, road: Road, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    files, count = FILES[kind]
    contents = files(tmp_path)
    if request.config.getoption("fuzz") > 1 and kind in EXPORTERS:
        script, pattern = EXPORTERS[kind]
        subprocess.run([sys.executable, SUPPORT / script, tmp_path], check=True, timeout=200)
        contents += [path.read_bytes() for path in sorted(tmp_path.glob(pattern))]
    fuzz(kind, contents, count, road.offer)


def in_zip(content: bytes) -> bytes:
    return keras_archive(content, hdf5(small_weights))


def in_hdf5(content: bytes) -> bytes:
    def write(file: h5py.File) -> None:
        small_weights(file)
        file.attrs["model_config"] = content

    return hdf5(write)


DOCUMENTS: dict[str, tuple[list[Any], int, Callable[[bytes], bytes]]] = {
    "program": (PROGRAMS, 60, archive),
    "config in .keras": ([CONFIG], 150, in_zip),
    "config in .h5": ([CONFIG], 150, in_hdf5),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_mutated_document_is_stored_or_refused(fuzz: Fuzz, road: Road, kind: str) -> None:
    documents, count, pack = DOCUMENTS[kind]
    fuzz(kind, json_mutations(documents), count, lambda content: road.offer(pack(content)))


def test_a_mutated_keras_model_is_described_or_refused(
    fuzz: Fuzz, road: Road, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("fuzz") == 1:
        pytest.skip("starts TensorFlow; --fuzz 2 or more runs it")
    pytest.importorskip("tensorflow")
    changed = json_mutations([CONFIG])
    fuzz("Keras' own", changed, 20, lambda content: road.describe(in_zip(content)))


def test_names_that_are_not_text_are_refused(road: Road, tmp_path: Path) -> None:
    content = onnx_file(network(0), tmp_path / "net.onnx").read_bytes()
    for name in (b"stem/conv", b"logits", b"image", b"head.weight", b"Conv", b"strides"):
        assert name in content
        road.offer(content.replace(name, b"\xff" * len(name)))
    assert road.counts["refused"] == 6, road.counts


def test_the_files_before_mutation_are_stored(road: Road, tmp_path: Path) -> None:
    for files, _ in FILES.values():
        for content in files(tmp_path):
            road.offer(content)
    for documents, _, pack in DOCUMENTS.values():
        for document in documents:
            road.offer(pack(json.dumps(document).encode()))
    assert not road.counts["refused"], road.counts
    assert not road.counts["ended its guest"], road.counts
