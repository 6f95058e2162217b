"""Features and RDMs through the network equal what THINGSvision 2.7.3 gave for the same files."""

from __future__ import annotations

import csv
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thingsvision_client import Client, Model, correlate_rdms

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def trained(server: Any, shared_data: Path) -> Model:
    """SqueezeNet with its trained weights, uploaded."""
    with Client(server.address) as client:
        sha256 = client.upload_weights(shared_data / "squeezenet1_0-imagenet.pth")
    return Model("torchvision", "squeezenet1_0", f"sha256:{sha256}")


@pytest.fixture(scope="module")
def oracle(shared_data: Path) -> dict[str, Any]:
    return dict(np.load(shared_data / "oracle" / "thingsvision-2.7.3_squeezenet1_0.npz"))


@pytest.fixture(scope="module")
def stimuli(shared_data: Path) -> list[Path]:
    folder = shared_data / "rsa92"
    with (folder / "categories.csv").open() as file:
        return [folder / "stimuli" / row["image"] for row in csv.DictReader(file)]


def assert_equals_oracle(found: dict[str, Any], oracle: dict[str, Any]) -> None:
    """The oracle has `features.0` of the first image only, and one module flattened."""
    for module, features in found.items():
        expected = oracle[module]
        rows = features[: len(expected)].reshape(expected.shape)
        assert np.abs(rows - expected).max() <= TOLERANCE * np.abs(expected).max(), module


def extracted(
    client: Client, model: Model, oracle: dict[str, Any], shared_data: Path, batch_size: int | None
) -> dict[str, Any]:
    names = [str(name) for name in oracle["file_names"]]
    paths = [shared_data / "photos78" / name for name in names]
    modules = [name for name in oracle if name != "file_names"]
    extraction = client.extract(model, paths, modules, batch_size=batch_size)
    assert [Path(image).name for image in extraction.images] == names
    assert extraction.provenance.model == model
    return extraction.features


@pytest.mark.parametrize("batch_size", [None, 1, 3, 8])
def test_features_equal_the_librarys_at_every_batch_size(
    client: Client,
    trained: Model,
    oracle: dict[str, Any],
    shared_data: Path,
    batch_size: int | None,
) -> None:
    with warnings.catch_warnings():
        # Five modules of eight images are more than a pass of this server may hold.
        warnings.filterwarnings("ignore", "The server lowered batch_size")
        found = extracted(client, trained, oracle, shared_data, batch_size)
    assert set(found) == {
        "features.0",
        "features.12",
        "features.12.squeeze",
        "classifier.1",
        "classifier.3",
    }
    assert_equals_oracle(found, oracle)


def test_activations_are_copied_before_an_operation_in_place(
    client: Client, trained: Model, oracle: dict[str, Any], shared_data: Path
) -> None:
    features = extracted(client, trained, oracle, shared_data, 1)["features.0"]
    assert (features < 0).mean() > 0.3, "the ReLU after the convolution overwrote its output"


def test_features_are_right_while_three_others_work(
    server: Any,
    client: Client,
    trained: Model,
    oracle: dict[str, Any],
    shared_data: Path,
    stimuli: list[Path],
) -> None:
    stop = threading.Event()

    def work(seed: int) -> int:
        rounds = 0
        with Client(server.address) as other:
            while not stop.is_set():
                # Two share the model under test, one has another.
                model = trained if seed else Model("torchvision", "squeezenet1_0", "random:1")
                other.extract(model, stimuli[seed::23], ["features.12", "classifier.3"])
                rounds += 1
        return rounds

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(work, seed) for seed in range(3)]
        try:
            for batch_size in (None, 3, 1):
                found = extracted(client, trained, oracle, shared_data, batch_size)
                assert_equals_oracle(found, oracle)
        finally:
            stop.set()
        assert all(other.result() for other in others), "the others did not work meanwhile"


@pytest.fixture(scope="module")
def rdms_92(server: Any, trained: Model, stimuli: list[Path]) -> dict[str, dict[str, Any]]:
    """RDMs of the 92 stimuli, metric by metric, then module by module.

    Of the model for one metric, and of its features for the others: passes take most of the time.
    """
    modules = ["classifier.3", "features.12"]
    with Client(server.address) as client:
        features = client.extract(trained, stimuli, modules).features
        return {
            "correlation": client.rdm(trained, stimuli, modules, dtype="float64").rdms,
            **{
                metric: client.rdm_of(features, metric=metric, dtype="float64").rdms
                for metric in ("cosine", "euclidean", "gaussian")
            },
        }


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean", "gaussian"])
@pytest.mark.parametrize("module", ["classifier.3", "features.12"])
def test_rdms_of_the_92_images_equal_the_librarys(
    rdms_92: dict[str, dict[str, Any]], shared_data: Path, metric: str, module: str
) -> None:
    oracle = np.load(shared_data / "oracle" / "thingsvision-2.7.3_rsa92_rdms.npz")
    expected, rdm = oracle[f"{module}__{metric}"], rdms_92[metric][module]
    above = np.triu_indices(92, 1)
    np.testing.assert_allclose(rdm[above], expected[above], rtol=TOLERANCE)
    assert np.all(np.diag(rdm) == 0)
    np.testing.assert_array_equal(rdm, rdm.T)


# Pearson and Spearman as THINGSvision 2.7.3 finds them; see the reference data's README.
REFERENCES = {
    ("human_it", "classifier.3"): (0.3081, 0.2612),
    ("human_it", "features.12"): (0.3727, 0.2952),
    ("monkey_it", "classifier.3"): (0.3858, 0.2957),
    ("monkey_it", "features.12"): (0.5903, 0.4001),
    ("behaviour", "classifier.3"): (0.5385, 0.4496),
    ("behaviour", "features.12"): (0.4809, 0.3119),
}


@pytest.mark.parametrize(("data", "module"), REFERENCES)
def test_correlations_with_brains_and_behaviour_equal_the_librarys(
    rdms_92: dict[str, dict[str, Any]], shared_data: Path, data: str, module: str
) -> None:
    reference = np.load(shared_data / "rsa92" / f"{data}.npy")
    rdm = rdms_92["correlation"][module]
    found = [correlate_rdms(reference, rdm, correlation=c) for c in ("pearson", "spearman")]
    assert found == pytest.approx(REFERENCES[data, module], abs=1e-4)
