"""A server that has the models of the pages, and a folder such as a reader has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_weights import write_weights

from support.serving import TestServer, serving


@pytest.fixture(scope="package")
def reader_images(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> Path:
    """A folder with `photos`, `images` (in folders of classes) and the server's `things`."""
    folder = tmp_path_factory.mktemp("reader")
    for number, photo in enumerate(photos):
        for place in ("photos", f"images/{('animals', 'others')[number % 2]}", "things"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, folder / place)
    return folder


@pytest.fixture(scope="package")
def pages_server(
    tmp_path_factory: pytest.TempPathFactory, reader_images: Path
) -> Iterator[TestServer]:
    """A server with weights for all models that pages and notebooks name."""
    weights = tmp_path_factory.mktemp("weights-of-pages")
    write_weights(weights)
    # The paper's batches are of 64 images.
    settings = {"max_batch": 64, "image_root": reader_images}
    with serving(weights, drain_seconds=1.0, **settings) as running:
        yield running


@pytest.fixture
def reader(reader_images: Path, tmp_path: Path) -> Path:
    """A folder with its own images, for the files that a page writes."""
    for name in ("photos", "images"):
        shutil.copytree(reader_images / name, tmp_path / name)
    return tmp_path
