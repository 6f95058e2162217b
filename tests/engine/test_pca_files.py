"""Files of PCAs: of any number of images, and as earlier versions wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from support.written_pcas import LINE, MODULE, described, numbers
from thingsvision_server.engine.pca.file import parse_pca, read_description, write_pca
from thingsvision_server.engine.pca.fitted import PCADescription

NUMBERS = numbers()
HEADER_BYTES = 100_000_000
"""The longest header of a safetensors file."""


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
    images = LINE
    for name in ("one", "other"):
        write_pca(tmp_path / name, described(images), images, NUMBERS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_file_of_before_there_was_an_option_with_images_in_its_header_is_read(
    tmp_path: Path,
) -> None:
    images, path = LINE, tmp_path / "old.safetensors"
    write_pca(path, described(images), images, NUMBERS)
    with safe_open(path, "numpy") as file:
        description = json.loads(file.metadata()["thingsvision_pca"])
    del description["facts"]["compiled"]
    told = json.dumps({**description, "images": images})
    tensors = {f"{MODULE}.mean": NUMBERS[MODULE].mean, f"{MODULE}.axes": NUMBERS[MODULE].axes}
    save_file(tensors, path, metadata={"thingsvision_pca": told})
    assert_is_read(path, described(images))
