"""Files of PCAs: of any number of images, and as earlier versions wrote them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from thingsvision_server.backends.compute_options import ComputeOptions, MemoryFormat, Precision
from thingsvision_server.engine.pca.file import parse_pca, read_description, write_pca
from thingsvision_server.engine.pca.fitted import Axes, FeatureFacts, PCADescription, PCAModule
from thingsvision_server.engine.reduction import Projection, Reduction
from thingsvision_server.inputs import Preprocessing

MODULE = "features.3"
NUMBERS = {
    MODULE: Axes(np.arange(4, dtype=np.float64), np.arange(8, dtype=np.float32).reshape(2, 4))
}
OPTIONS = ComputeOptions(Precision.BFLOAT16, MemoryFormat.CHANNELS_LAST)
HEADER_BYTES = 100_000_000
"""The longest header of a safetensors file."""


def described(images: str) -> PCADescription:
    reduction = Reduction(pool="mean", pool_axes=(1, 2), projection=Projection(4, 0))
    facts = FeatureFacts("m/n@default", "0" * 64, Preprocessing(), "", OPTIONS, reduction)
    digest = hashlib.sha256(images.encode()).hexdigest()
    module = PCAModule(MODULE, (4,), (2.0, 1.0), (0.6, 0.3))
    return PCADescription(
        "ü", 2, images.count("\n"), digest, facts, (module,), 8, False, "cpu", "torch", "1"
    )


def assert_is_read(path: Path, description: PCADescription) -> None:
    assert read_description(path) == description
    (found,) = parse_pca(path.read_bytes(), description).values()
    np.testing.assert_array_equal(found.mean, NUMBERS[MODULE].mean)
    np.testing.assert_array_equal(found.axes, NUMBERS[MODULE].axes)


def test_a_pca_may_be_of_a_million_images(tmp_path: Path) -> None:
    line = f"{'0' * 64}  class/ein Bild ä.jpg\n"
    images = line * (HEADER_BYTES // len(line.encode()) + 1)
    description, path = described(images), tmp_path / "pca.safetensors"
    write_pca(path, description, images, NUMBERS)
    assert_is_read(path, description)
    assert load_file(path)["images"].tobytes().decode() == images


def test_the_same_pca_is_the_same_file(tmp_path: Path) -> None:
    images = f"{'0' * 64}  a.jpg\n"
    for name in ("one", "other"):
        write_pca(tmp_path / name, described(images), images, NUMBERS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_file_of_before_there_was_an_option_with_images_in_its_header_is_read(
    tmp_path: Path,
) -> None:
    images, path = f"{'0' * 64}  a.jpg\n", tmp_path / "old.safetensors"
    write_pca(path, described(images), images, NUMBERS)
    with safe_open(path, "numpy") as file:
        description = json.loads(file.metadata()["thingsvision_pca"])
    del description["facts"]["compiled"]
    told = json.dumps({**description, "images": images})
    tensors = {f"{MODULE}.mean": NUMBERS[MODULE].mean, f"{MODULE}.axes": NUMBERS[MODULE].axes}
    save_file(tensors, path, metadata={"thingsvision_pca": told})
    assert_is_read(path, described(images))
