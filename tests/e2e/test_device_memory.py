"""A device without room: the batch is halved, a single image is refused, the server still works."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from support.closeness import assert_close
from support.server_process import ServerProcess, server_process
from thingsvision_client import Client, PreprocessingOverrides, Provenance, errors
from thingsvision_client.rpc.extraction import Extraction

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits another process's memory")


# A network of 5 MB whose first layer puts out 13 MB for an image of this size.
MODEL = "torchvision/squeezenet1_1@random:0"
OTHER = "torchvision/squeezenet1_0@random:0"
MODULE = "features.0"
LARGE = PreprocessingOverrides(resize=448, crop=448)
ROW_BYTES = 4 * 64 * 223 * 223
IMAGE_COUNT = 32
MIB = 2**20


@contextmanager
def no_more_than(server: ServerProcess, more_bytes: int) -> Iterator[None]:
    """Let the server's address space grow by so much and no more."""
    limit = server.process.memory_info().vms + more_bytes
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    server.process.rlimit(psutil.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        server.process.rlimit(psutil.RLIMIT_AS, unlimited)


@contextmanager
def server_of_large_batches(folder: Path) -> Iterator[tuple[ServerProcess, Client]]:
    """Start a server that takes all images in one batch, if it has room."""
    with (
        server_process(
            folder, max_batch=IMAGE_COUNT, max_batch_bytes="1GiB", staging_memory=0
        ) as server,
        Client(server.address) as client,
    ):
        yield server, client


def return_freed_memory(client: Client) -> None:
    """Have the server return what it keeps of a pass, but not its threads: it unloads a model."""
    client.load(OTHER)
    client.unload(OTHER)


def many(photos: list[Path]) -> list[tuple[str, bytes]]:
    some = [photos[number % len(photos)] for number in range(IMAGE_COUNT)]
    return [(f"{number}", path.read_bytes()) for number, path in enumerate(some)]


def touched(splits: Any) -> list[int]:
    """Return the places of the images whose batch was split."""
    return [one.first_index + at for one in splits for at in range(one.image_count)]


def extract(client: Client, images: Any, modules: Any = MODULE, **options: Any) -> Extraction:
    return client.extract(MODEL, images, modules, preprocessing=LARGE, **options)


def test_a_batch_without_room_is_halved(tmp_path: Path, photos: list[Path]) -> None:
    images = many(photos)
    with server_of_large_batches(tmp_path) as (server, client):
        expected = extract(client, images, batch_size=IMAGE_COUNT).features[MODULE]
        return_freed_memory(client)
        told = rf"no room for batches of {IMAGE_COUNT}: it ran images 0 to \d+ \(\d+ at a time\)"
        # A batch takes its rows twice: as the network makes them, and copied.
        room = IMAGE_COUNT * ROW_BYTES * 3 // 2
        with no_more_than(server, room), pytest.warns(UserWarning, match=told):
            halved = extract(client, images, batch_size=IMAGE_COUNT)
        assert_close(halved.features[MODULE], expected)
        assert halved.images == [name for name, _ in images]
        assert "device out of memory, halving the batch" in server.log
        splits = halved.provenance.split_batches
        assert touched(splits) == list(range(IMAGE_COUNT))
        assert {one.pass_size for one in splits} <= {1, 2, 4, 8, 16}
        assert halved.to_dict()["split_batches"] == [vars(one) for one in splits]
        assert Provenance.from_dict(halved.provenance.to_dict()) == halved.provenance


def test_large_inputs_make_small_batches(tmp_path: Path, photos: list[Path]) -> None:
    # Rows of 4 kB allow 32 images, whose activations would take 800 MB on the way.
    images = many(photos)
    limits = {"max_input_bytes": "10MB", "max_batch": IMAGE_COUNT}
    with server_process(tmp_path, **limits) as server, Client(server.address) as client:
        four = extract(client, images, "classifier.3", batch_size=4)
        with no_more_than(server, 12 * ROW_BYTES * 2):
            found = extract(client, images, "classifier.3")
            lowered = "from 32 to 4 because of its limit --max-input-bytes 10,000,000, where an im"
            with pytest.warns(UserWarning, match=lowered):
                lower = extract(client, images, "classifier.3", batch_size=IMAGE_COUNT)
        assert_close(found.features["classifier.3"], four.features["classifier.3"])
        np.testing.assert_array_equal(*(one.features["classifier.3"] for one in (lower, four)))
        assert "halving" not in server.log


def test_an_image_without_room_is_refused(tmp_path: Path, photos: list[Path]) -> None:
    images = [("0", photos[0].read_bytes())]
    with server_process(tmp_path) as server, Client(server.address) as client:
        expected = extract(client, images, batch_size=1).features[MODULE]
        every_module = [m.name for m in client.modules(MODEL) if m.extractable and m.name]
        with (
            no_more_than(server, 40 * MIB),  # its threads take some, too
            pytest.raises(errors.DeviceMemoryError, match="single image"),
        ):
            extract(client, images, every_module)
        again = extract(client, images, batch_size=1).features[MODULE]
        np.testing.assert_array_equal(again, expected)


def test_a_compiled_batch_without_room_is_refused(tmp_path: Path, photos: list[Path]) -> None:
    images = many(photos)
    with server_of_large_batches(tmp_path) as (server, client):
        ask = {"batch_size": IMAGE_COUNT, "compiled": True}
        expected = extract(client, images, **ask).features[MODULE]
        return_freed_memory(client)
        with (
            no_more_than(server, IMAGE_COUNT * ROW_BYTES // 2),
            pytest.raises(errors.DeviceMemoryError, match="of 32 images in a compiled pass"),
        ):
            extract(client, images, **ask)
        again = extract(client, images, **ask).features[MODULE]
        np.testing.assert_array_equal(again, expected)
