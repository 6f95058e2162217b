"""Clients, extractors, datasets and results in other processes, and as copies."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.serving import TestServer
from thingsvision_client import Client, HDF5Dataset, errors, get_extractor, load_batches
from thingsvision_client.model_class import Model as PaperModel

NETWORK = "torchvision/squeezenet1_0@random:5"
MODULE = "features.12"

COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    lambda value: pickle.loads(pickle.dumps(value)),
]


def linked(photos: list[Path], folder: Path) -> Path:
    """Return a folder of links to some photographs."""
    folder.mkdir()
    for photo in photos:
        (folder / photo.name).symlink_to(photo)
    return folder


def test_other_processes_get_the_same_features(
    server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    script = Path(__file__).with_name("processes_script.py")
    folder = linked(photos[:3], tmp_path / "photos")
    command = [sys.executable, "-W", "error::UserWarning", script, server.address, folder, tmp_path]
    subprocess.run(command, check=True, timeout=100)
    with np.load(tmp_path / "found.npz") as found:
        assert set(found) == {"here", "fork", "spawn", "loky", "afterwards"}
        for rows in found.values():
            np.testing.assert_array_equal(rows, found["here"])


@pytest.mark.parametrize("copied", COPIES)
def test_a_copied_client_calls_the_same_server(
    client: Client, copied: Callable[[Any], Any]
) -> None:
    other = copied(client)
    assert other.server == client.server
    assert other.models("torchvision", "alexnet") == client.models("torchvision", "alexnet")
    other.close()
    assert client.models("torchvision", "alexnet"), "closing the copy closed the original"


def test_a_copied_client_keeps_its_timeout(server: TestServer) -> None:
    with Client(server.address, timeout=1e-6) as client, pytest.raises(errors.DeadlineError):
        pickle.loads(pickle.dumps(client)).models()


@pytest.mark.parametrize("copied", COPIES)
def test_copied_extractors_and_datasets_give_the_same_features(
    server: TestServer, photos: list[Path], tmp_path: Path, copied: Callable[[Any], Any]
) -> None:
    parameters = {"seed": 5}
    extractor = get_extractor(
        "squeezenet1_0", False, None, "torchvision", model_parameters=parameters,
        server=server.address,
    )  # fmt: skip
    folder = linked(photos[:3], tmp_path / "photos")
    batches = load_batches(folder, tmp_path, "pt", 2, transforms=extractor.get_transformations())
    expected = extractor.extract_features(batches, MODULE)
    other, others = copied(extractor), copied(batches)
    np.testing.assert_array_equal(other.extract_features(others, MODULE), expected)
    np.testing.assert_array_equal(others.dataset.targets, batches.dataset.targets)
    batch = next(iter(batches))
    np.testing.assert_array_equal(other.extract_batch(copied(batch), MODULE), expected[:2])
    loop = copied(extractor.batch_extraction(MODULE))
    np.testing.assert_array_equal(loop.extract_batch(copied(batch)), expected[:2])
    queue = copied(batches.dataset.queue())
    found = server_features(server, queue)
    np.testing.assert_array_equal(found, expected)


def server_features(server: TestServer, images: Any) -> Any:
    with Client(server.address) as client:
        return client.extract(NETWORK, images, MODULE, batch_size=2).features[MODULE]


@pytest.mark.parametrize("copied", COPIES)
def test_results_are_copied_whole(
    client: Client, photos: list[Path], copied: Callable[[Any], Any]
) -> None:
    extraction = client.extract(NETWORK, photos[:3], MODULE, batch_size=1)
    other = copied(extraction)
    np.testing.assert_array_equal(other.features[MODULE], extraction.features[MODULE])
    assert other.to_dict() == extraction.to_dict()
    rdms = client.rdm(NETWORK, photos[:3], MODULE, batch_size=1)
    np.testing.assert_array_equal(copied(rdms).rdms[MODULE], rdms.rdms[MODULE])
    for record in (rdms.provenance, client.modules(NETWORK), client.models("ssl")):
        assert copied(record) == record


@pytest.mark.parametrize("copied", COPIES)
def test_other_objects_are_copied_whole(
    server: TestServer, tmp_path: Path, copied: Callable[[Any], Any]
) -> None:
    path = tmp_path / "images.h5"
    with h5py.File(path, "w") as file:
        file["imgBrick"] = np.arange(6 * 32 * 32 * 3, dtype="uint8").reshape(6, 32, 32, 3)
    dataset = HDF5Dataset(path, "imgBrick", "pt", img_indices=[3, 1])
    rows = server_features(server, copied(dataset).queue())
    np.testing.assert_array_equal(rows, server_features(server, dataset.queue()))
    model = copied(PaperModel("squeezenet1_0", False, None, server=server.address))
    assert [module.name for module in model.modules()][-1] == "classifier.3"


@pytest.mark.parametrize("name", [name for name in vars(errors) if name.endswith("Error")])
def test_errors_come_back_from_other_processes(name: str) -> None:
    error = getattr(errors, name)("text", request_id="1", field="model", subject="resnet")
    other = pickle.loads(pickle.dumps(error))
    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


def test_a_stream_belongs_to_its_process(client: Client, photos: list[Path]) -> None:
    stream = client.stream(NETWORK, photos[:2], MODULE)
    for copied in COPIES:
        with pytest.raises(TypeError, match="Give other processes the client"):
            copied(stream)
    stream._process = os.getpid() + 1  # as in a process that was forked
    with pytest.raises(errors.InvalidRequestError, match="the process that made it"):
        next(stream)
