"""PCAs of several servers on one folder are the same everywhere, and survive kills."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from support.server_process import server_process
from support.serving import serving
from support.tiny_pcas import MODULE, extract, fit
from thingsvision_client import Client, Reduction, errors
from thingsvision_client.errors import ThingsvisionError

ROUNDS = 4


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the servers of this file share."""
    return tmp_path_factory.mktemp("shared") / "weights"


@pytest.fixture(scope="module")
def clients(weights: Path) -> Iterator[tuple[Client, Client]]:
    """A client of each of two servers."""
    with (
        serving(weights) as one,
        serving(weights) as other,
        Client(one.address) as first,
        Client(other.address) as second,
    ):
        yield first, second


def test_what_one_server_fits_or_deletes_is_so_at_the_other(
    clients: tuple[Client, Client], folder: Path
) -> None:
    one, other = clients
    pca = fit(one, folder, MODULE, name="both")
    by_name = Reduction(pca="both")
    scores = extract(one, folder, MODULE, reduction=by_name).features[MODULE]
    there = extract(other, folder, MODULE, reduction=by_name)
    np.testing.assert_array_equal(there.features[MODULE], scores)
    assert there.provenance.pca.sha256 == pca.sha256
    assert fit(other, folder, MODULE, name="both") == pca
    assert other.delete_pca("both") == pca.size_bytes
    for client in clients:
        with pytest.raises(errors.UnknownPCAError):
            extract(client, folder, MODULE, reduction=by_name)
        assert client.pcas() == []


def test_a_name_that_both_fit_at_once_is_one_pca(
    clients: tuple[Client, Client], folder: Path
) -> None:
    images = sorted(folder.iterdir())

    def fit_some(client: Client, count: int, name: str) -> str:
        start.wait()
        try:
            return fit(client, images[:count], MODULE, name=name, components=2).sha256
        except errors.InvalidRequestError as error:
            return str(error)

    with ThreadPoolExecutor(2) as threads:
        for turn in range(ROUNDS):
            # Every other time with other images, for which the name can't be the same PCA's.
            name, counts, start = f"turn {turn}", (16, 16 + 8 * (turn % 2)), threading.Barrier(2)
            said = set(threads.map(fit_some, clients, counts, [name, name]))
            refused = [one for one in said if "already exists for the same features" in one]
            assert len(refused) == turn % 2
            (sha256,) = said.difference(refused)
            for client in clients:
                assert [one.sha256 for one in client.pcas() if one.name == name] == [sha256]
                extract(client, images[:2], MODULE, reduction=Reduction(pca=name))


def test_a_server_that_is_killed_while_it_fits_holds_the_other_up_in_nothing(
    clients: tuple[Client, Client], weights: Path, folder: Path, tmp_path: Path
) -> None:
    images, stored = sorted(folder.iterdir())[:8], threading.Event()
    with server_process(tmp_path, weights_dir=weights, exit_code=-9) as third:

        def fit_on() -> None:
            with Client(third.address) as client:
                for number in range(1_000):
                    fit(client, images, MODULE, name=f"killed {number}", components=2)
                    stored.set()

        with ThreadPoolExecutor(1) as threads:
            fitting = threads.submit(fit_on)
            assert stored.wait(60), fitting.exception(0)
            third.process.kill()
            with pytest.raises(ThingsvisionError):
                fitting.result(60)
    listed = [one.name for one in clients[0].pcas() if one.name.startswith("killed")]
    assert listed
    for client in clients:
        for name in listed:  # whole, or not there
            extract(client, images, MODULE, reduction=Reduction(pca=name))
    assert fit(clients[1], images, MODULE, name=listed[-1], components=2).name == listed[-1]
    assert fit(clients[1], images, MODULE, name=f"killed {len(listed)}", components=2)
