"""Without files, threads or room for a log, what needs none goes on; the rest is UNAVAILABLE."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.bystander import MODEL, MODULE, bystander
from support.scarce_system import (
    no_longer_files,
    no_more_files,
    no_more_threads,
    obey_limits,
)
from support.server_process import ServerProcess, server_process
from thingsvision_client import Client
from thingsvision_client.errors import StorageError, UnavailableError
from thingsvision_client.images.image import server_image

Work = Callable[[Client, list[Path]], Any]

BAD = ("bad.png", b"no image")


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scarce") / "limit"


@pytest.fixture(scope="module")
def server(control: Path, photos: list[Path]) -> Iterator[ServerProcess]:
    folder = control.parent
    folder.chmod(0o777)  # the server may run as another user
    root = folder / "root"
    root.mkdir()
    shutil.copy(photos[0], root / "photo.png")
    with (
        server_process(
            folder,
            before=partial(obey_limits, control, of_threads=True),
            image_root=root,
            rdm_features_memory=0,
        ) as running,
        Client(running.address) as client,
    ):
        client.fit_pca(MODEL, photos[:2], "features.12", components=1, name="kept")
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def compute_rdm(client: Client, photos: list[Path]) -> Any:
    return client.rdm(MODEL, photos[:2], "features.12")


def fit_pca(client: Client, photos: list[Path]) -> Any:
    return client.fit_pca(MODEL, photos[:2], "features.12", components=1)


def load_another(client: Client, _photos: list[Path]) -> Any:
    client.load("torchvision/squeezenet1_0@random:0")
    return client.unload("torchvision/squeezenet1_0@random:0")


def read_on_the_server(client: Client, _photos: list[Path]) -> Any:
    """A file that can't be opened now is not a bad image, which would be skipped."""
    images = [server_image("photo.png"), BAD]
    return client.extract(MODEL, images, MODULE, on_error="skip").features[MODULE]


def list_on_the_server(client: Client, _photos: list[Path]) -> Any:
    return client.server_images()


def list_pcas(client: Client, _photos: list[Path]) -> Any:
    """A PCA that can't be opened now is not a file of something else."""
    return [one.name for one in client.pcas()]


NEED_FILES: dict[str, Work] = {
    "spilled features": compute_rdm,
    "an image on the server": read_on_the_server,
    "images on the server": list_on_the_server,
    "PCAs": list_pcas,
}
NEED_THREADS: dict[str, Work] = {"an RDM": compute_rdm, "a load": load_another}


def check_unavailable(
    server: ServerProcess,
    work: Callable[[], object],
    photos: list[Path],
    *,
    shortage: AbstractContextManager[None],
    match: str,
) -> None:
    """Check that work is refused during a shortage and done after it, and that others go on."""
    with bystander(server.address, photos, 0.1) as other:
        with shortage, pytest.raises(UnavailableError, match=match):
            work()
        work()
    assert not other.failures
    assert server.internal_error_count == 0


@pytest.mark.parametrize("work", NEED_FILES.values(), ids=NEED_FILES)
def test_a_call_that_needs_a_file_is_unavailable(
    server: ServerProcess, control: Path, client: Client, photos: list[Path], work: Work
) -> None:
    check_unavailable(
        server,
        partial(work, client, photos),
        photos,
        shortage=no_more_files(server.process, control),
        match="can't open more files now",
    )


def test_a_cached_image_that_cannot_be_opened_is_sent_once_more(
    server: ServerProcess, control: Path, client: Client, photos: list[Path]
) -> None:
    expected = client.extract(MODEL, photos[:3], MODULE).features[MODULE]
    with no_more_files(server.process, control):
        found = client.extract(MODEL, photos[:3], MODULE).features[MODULE]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("work", NEED_THREADS.values(), ids=NEED_THREADS)
def test_a_call_that_needs_a_thread_is_unavailable(
    server: ServerProcess, control: Path, client: Client, photos: list[Path], work: Work
) -> None:
    check_unavailable(
        server,
        partial(work, client, photos),
        photos,
        shortage=no_more_threads(server.process, control),
        match="can't start more threads or processes now",
    )


def test_connections_beyond_the_limit_of_files_wait(
    server: ServerProcess, control: Path, photos: list[Path]
) -> None:
    host, port = server.address.split(":")
    with bystander(server.address, photos, 0.1) as other, ExitStack() as open_until_here:
        with no_more_files(server.process, control, more=10):
            for _ in range(30):
                open_until_here.enter_context(socket.create_connection((host, int(port)), 5))
        open_until_here.close()
        with Client(server.address) as late:
            late.extract(MODEL, photos[:1], MODULE)
    assert not other.failures


def test_a_log_that_cannot_be_written_fails_no_call(
    server: ServerProcess, control: Path, client: Client, photos: list[Path]
) -> None:
    """No file may grow, the log's neither: this works where nothing can be mounted, too."""
    lines = server.log.count("\n")
    with bystander(server.address, photos, 0.1) as other:
        with no_longer_files(server.process, control):
            for work in (compute_rdm, fit_pca):
                with pytest.raises(StorageError):
                    work(client, photos)
            assert client.uploads() == []
            assert server.log.count("\n") <= lines + 1
        for work in (compute_rdm, fit_pca):
            work(client, photos)
    assert not other.failures
    assert server.internal_error_count == 0
    assert server.log.count("\n") > lines + 1
