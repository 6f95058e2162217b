"""A THINGSvision script over the network: the library's own names, files, orders and errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving import TestServer
from thingsvision_client import (
    Client,
    DataLoader,
    ImageDataset,
    compute_rdm,
    connect,
    correlate_rdms,
    errors,
    get_extractor,
    plot_rdm,
    save_features,
)
from thingsvision_client.extractor import Extractor

MODULES = ["features.5", "classifier.3"]


@pytest.fixture
def root(tmp_path: Path, photos: list[Path]) -> Path:
    """Class folders whose names sort otherwise than the photographs were listed."""
    folder = tmp_path / "images"
    for number, photo in enumerate(photos):
        place = folder / ("zebra", "ape")[number % 2] / f"{number} ünï{photo.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place)
    return folder


@pytest.fixture
def extractor(server: TestServer) -> Iterator[Extractor]:
    connect(server.address)
    return get_extractor(
        model_name="squeezenet1_0",
        pretrained=False,
        device="cpu",
        source="torchvision",
        model_parameters={"seed": 5},
    )


def alone(server: TestServer, path: Path, module: str) -> np.ndarray:
    """Return an image's features from a request of its own."""
    with Client(server.address) as client:
        model = "torchvision/squeezenet1_0@random:5"
        return client.extract(model, [path], [module], batch_size=1).features[module][0]


def test_rows_are_the_images_of_file_names_txt(
    server: TestServer, extractor: Extractor, root: Path, tmp_path: Path
) -> None:
    dataset = ImageDataset(root=root, out_path=tmp_path, backend=extractor.get_backend())
    batches = DataLoader(dataset=dataset, batch_size=1, backend=extractor.get_backend())
    features = extractor.extract_features(batches=batches, module_names=MODULES)
    names = (tmp_path / "file_names.txt").read_text().splitlines()
    classes = [name.partition("/")[0] for name in names]
    assert classes == sorted(classes)
    assert set(classes) == {"ape", "zebra"}
    for module in MODULES:
        for name, row in zip(names, features[module], strict=True):
            np.testing.assert_array_equal(row, alone(server, root / name, module))


def test_file_names_give_their_own_order(
    server: TestServer, extractor: Extractor, root: Path, tmp_path: Path
) -> None:
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    asked = [found[-1], found[0], found[2], found[1]]
    dataset = ImageDataset(root, tmp_path, extractor.get_backend(), file_names=asked)
    batches = DataLoader(dataset, 1, extractor.get_backend())
    features = extractor.extract_features(batches, "classifier.3", flatten_acts=True)
    assert (tmp_path / "file_names.txt").read_text().splitlines() == asked
    assert features.shape == (4, 1000)
    for name, row in zip(asked, features, strict=True):
        np.testing.assert_array_equal(row, alone(server, root / name, "classifier.3").ravel())


def test_features_are_saved_and_compared_as_in_the_library(
    extractor: Extractor, root: Path, tmp_path: Path
) -> None:
    dataset = ImageDataset(root, tmp_path, "pt", transforms=extractor.get_transformations())
    features = extractor.extract_features(
        DataLoader(dataset, batch_size=2, backend="pt"), module_names=MODULES, flatten_acts=True
    )
    save_features(features["classifier.3"], out_path=str(tmp_path), file_format="npy")
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), features["classifier.3"])
    save_features(features, out_path=str(tmp_path), file_format="npz")
    saved = np.load(tmp_path / "features.npz")
    assert set(saved) == set(MODULES)
    rdms = [compute_rdm(features[module], method="correlation") for module in MODULES]
    assert -1 <= correlate_rdms(*rdms, correlation="spearman") <= 1
    plot_rdm(str(tmp_path), features["features.5"], method="cosine")
    assert (tmp_path / "rdm.png").read_bytes().startswith(b"\x89PNG")


def test_rdms_of_the_server_and_of_the_client_agree(
    server: TestServer, extractor: Extractor, root: Path, tmp_path: Path
) -> None:
    dataset = ImageDataset(root, tmp_path, "pt")
    batches = DataLoader(dataset, batch_size=1, backend="pt")
    features = extractor.extract_features(batches, "features.5", flatten_acts=True)
    paths = [root / name for name in dataset.names]
    with Client(server.address) as client:
        for metric in ("correlation", "cosine", "euclidean", "gaussian"):
            rdms = client.rdm(
                extractor.model, paths, ["features.5"], metric=metric, dtype="float64", batch_size=1
            )
            local = compute_rdm(features, method=metric)
            np.testing.assert_allclose(rdms.rdms["features.5"], local, rtol=1e-9, atol=1e-12)


def test_the_model_is_shown_as_a_tree(
    extractor: Extractor, capsys: pytest.CaptureFixture[str]
) -> None:
    extractor.show_model()
    shown = capsys.readouterr().out
    assert "Conv2d" in shown
    assert "squeeze" in shown
    names = extractor.get_module_names()
    assert names.index("features.0") < names.index("features.12") < names.index("classifier.3")


def test_wrong_names_are_value_errors_with_near_matches(
    server: TestServer, extractor: Extractor, root: Path, tmp_path: Path
) -> None:
    batches = DataLoader(ImageDataset(root, tmp_path, "pt"), 2, "pt")
    with pytest.raises(ValueError, match=r"features\.1'"):
        extractor.extract_features(batches, module_name="feature.1")
    with pytest.raises(errors.UnknownModelError, match="'squeezenet1_0'"):
        get_extractor("squeezenet1_O", False, "cpu", "torchvision", server=server.address)
    with pytest.raises(errors.InvalidRequestError, match="exactly one"):
        extractor.extract_features(batches)


def test_a_device_that_the_server_lacks_is_a_warning(server: TestServer) -> None:
    with pytest.warns(UserWarning, match="no device 'cuda'"):
        get_extractor("alexnet", False, "cuda", "torchvision", server=server.address)


def test_a_stream_of_a_generator_is_read_as_it_is_sent(client: Client, photos: list[Path]) -> None:
    opened = 0

    def images() -> Iterator[Path]:
        nonlocal opened
        for _ in range(60):
            for photo in photos:
                opened += 1
                yield photo

    rows = client.stream("torchvision/squeezenet1_0@random:5", images(), ["features.12"])
    names, _ = next(rows)
    assert opened < 60 * len(photos), "all images were read before the first rows came"
    rest = sum(len(more) for more, _ in rows)
    assert len(names) + rest == 60 * len(photos)


def test_a_file_that_vanishes_is_named_and_the_server_goes_on(
    client: Client, photos: list[Path], tmp_path: Path
) -> None:
    missing = tmp_path / "gone.jpg"
    with pytest.raises(errors.ImageError, match=r"gone\.jpg"):
        client.extract("torchvision/squeezenet1_0@random:5", [*photos, missing], ["features.12"])
    found = client.extract("torchvision/squeezenet1_0@random:5", photos, ["features.12"])
    assert len(found.images) == len(photos)
