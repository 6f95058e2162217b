"""A full disk fails the call that needs it and no other; with room again, the call works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.bystander import MODEL, MODULE, bystander
from support.scarce_system import (
    can_mount,
    full_disk,
    mount_small_disks,
)
from support.server_process import ServerProcess, server_process
from thingsvision_client import Client
from thingsvision_client.errors import StorageError

SIZES = {"uploads": 4_000_000, "images": 4_000_000, "pca": 8_000_000, "spill": 2_000_000}
WEIGHTS = {"classifier.1.bias": np.zeros(250_000, np.float32)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("disks")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    """A server with a small disk for each kind of file, and features that are spilled at once."""
    if not can_mount():
        pytest.skip("this system lets no process mount a disk of its own")
    disks = {folder / "weights" / name: size for name, size in SIZES.items()}
    with server_process(
        folder,
        before=partial(mount_small_disks, disks),
        rdm_features_memory=0,
        spill_dir=folder / "weights" / "spill",
    ) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def upload(client: Client, _photos: list[Path], folder: Path) -> None:
    path = folder / "weights.safetensors"
    save_file(WEIGHTS, path)
    client.upload_weights(path)


def compute_rdm(client: Client, photos: list[Path], _folder: Path) -> None:
    client.rdm(MODEL, photos[:2], "features.12")


def fit_pca(client: Client, photos: list[Path], _folder: Path) -> None:
    client.fit_pca(MODEL, photos[:2], "features.12", components=1)


CALLS = {"uploads": upload, "spill": compute_rdm, "pca": fit_pca}

_Call = Callable[[Client, list[Path], Path], None]


def files_on(server: ServerProcess, disk: Path) -> set[str]:
    seen = Path(f"/proc/{server.process.pid}/root") / disk.relative_to("/")
    return {path.name for path in seen.rglob("*") if path.is_file()} - {"filler"}


@pytest.mark.parametrize(("name", "call"), CALLS.items(), ids=CALLS)
def test_the_call_that_needs_the_disk_fails_alone_and_leaves_nothing(
    server: ServerProcess,
    client: Client,
    folder: Path,
    photos: list[Path],
    name: str,
    call: _Call,
) -> None:
    disk = folder / "weights" / name
    with bystander(server.address, photos, 0.1) as other:
        with full_disk(server.process, disk):
            with pytest.raises(StorageError) as caught:
                call(client, photos, folder)
            assert files_on(server, disk) == set()
        call(client, photos, folder)
    assert str(disk) in str(caught.value)
    assert not other.failures
    assert server.internal_error_count == 0


def test_images_that_cannot_be_cached_are_used_all_the_same(
    server: ServerProcess, client: Client, folder: Path, photos: list[Path]
) -> None:
    disk = folder / "weights" / "images"
    before = files_on(server, disk)
    image = [("new", photos[2].read_bytes() + b"new")]
    with full_disk(server.process, disk):
        found = client.extract(MODEL, image, MODULE).features[MODULE]
        assert files_on(server, disk) == before
    np.testing.assert_array_equal(found, client.extract(MODEL, image, MODULE).features[MODULE])
    assert len(files_on(server, disk)) == len(before) + 1
