"""What the public tests of THINGSvision 2.7.3 ask of today's façade, in words of our own.

Networks of single numbers, which they also use, are in test_own_network; items of datasets and
loaders in test_dataset_inputs. docs/from-thingsvision.md lists what can't pass, with its reason.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import TensorDataset

from support.serving import TestServer
from thingsvision_client import (
    DataLoader,
    ImageDataset,
    compute_rdm,
    correlate_rdms,
    get_cka,
    normalize_features,
    plot_rdm,
    save_features,
    split_features,
)
from thingsvision_client.errors import InvalidRequestError, ThingsvisionError
from thingsvision_client.library.extractor import Extractor

FORMATS = ("hdf5", "npy", "mat", "pt", "txt")
FLAT = np.random.default_rng(0).normal(size=(32, 40)).astype(np.float32)
MAPS = FLAT.reshape(32, 5, 4, 2)

# The library's files don't name their rows.
pytestmark = pytest.mark.filterwarnings(
    "ignore:It is not known which images:thingsvision_client.errors.UnnamedRowsWarning"
)


def opened(server: TestServer, name: str, source: str) -> Extractor:
    """Return an extractor by the function where the library's own tests look for it."""
    helpers = import_module("thingsvision_client.core.extraction.helpers")
    extractor: Extractor = helpers.get_extractor(
        name, pretrained=False, device="cpu", source=source, server=server.address
    )
    return extractor


@pytest.mark.parametrize(
    ("name", "source", "kind"),
    [
        ("vgg16", "torchvision", "VGG"),
        ("mixnet_l", "timm", "EfficientNet"),
        ("VGG16_ecoset", "custom", "VGG"),
        ("Resnet50_ecoset", "custom", "ResNet"),
        ("Alexnet_ecoset", "custom", "AlexNet"),
        ("Inception_ecoset", "custom", "Inception3"),
    ],
)
def test_a_model_has_the_class_of_its_network(
    server: TestServer, name: str, source: str, kind: str
) -> None:
    model = opened(server, name, source).model
    assert model.__class__.__name__ == kind
    assert isinstance(model, torch.nn.Module)
    assert hasattr(model, "cpu")
    assert not model.training


@pytest.mark.parametrize("source", ["torchvision", "timm", "keras", "custom", "ssl"])
def test_a_model_that_no_source_has_is_an_error(server: TestServer, source: str) -> None:
    with pytest.raises(ThingsvisionError, match="random"):
        opened(server, "random", source)


@pytest.mark.parametrize(
    ("name", "source"), [("vgg16_bn", "torchvision"), ("dino-vit-small-p8", "ssl")]
)
def test_transformations_are_a_compose(server: TestServer, name: str, source: str) -> None:
    transforms = opened(server, name, source).get_transformations()
    assert isinstance(transforms, torchvision.transforms.Compose)


@pytest.mark.parametrize("form", FORMATS)
def test_files_are_named_by_their_format(form: str, tmp_path: Path) -> None:
    save_features(torch.tensor(FLAT) if form == "pt" else FLAT, tmp_path, form)
    assert (tmp_path / f"features.{form}").is_file()
    split_features(tmp_path, FLAT, form, n_splits=3)
    pieces = [tmp_path / f"features_{number:02}.{form}" for number in (1, 2, 3)]
    assert form == "hdf5" or all(piece.is_file() for piece in pieces)


@pytest.mark.parametrize("form", FORMATS)
def test_maps_are_saved_but_as_txt(form: str, tmp_path: Path) -> None:
    if form == "txt":
        for save in (
            lambda: save_features(MAPS, tmp_path, form),
            lambda: split_features(tmp_path, MAPS, form, n_splits=3),
        ):
            with pytest.raises(InvalidRequestError, match=r"32|images x 5 x 4 x 2.*flatten_acts"):
                save()
        assert not list(tmp_path.glob("*.txt"))
    else:
        save_features(MAPS, tmp_path, form)
        assert (tmp_path / f"features.{form}").is_file()


def test_rows_of_normalized_features_have_length_one() -> None:
    lengths = np.linalg.norm(normalize_features(FLAT), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


def test_metrics_of_rdms_agree_partly(tmp_path: Path) -> None:
    rdms = [compute_rdm(FLAT, name) for name in ("correlation", "cosine", "euclidean", "gaussian")]
    plot_rdm(tmp_path, FLAT, "gaussian")
    assert (tmp_path / "rdm.png").is_file()
    for first, second in pairwise(rdms):
        found: Any = correlate_rdms(first, second)
        assert isinstance(found, float)
        assert -1 < found.item() < 1


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("is_unbiased", [True, False])
def test_cka_gives_a_number_with_item(backend: str, kernel: str, is_unbiased: bool) -> None:
    width = 1.0 if kernel == "rbf" else None
    cka = get_cka(
        backend=backend, m=32, unbiased=is_unbiased, kernel=kernel, sigma=width, device="cpu"
    )
    found = cka.compare(FLAT, FLAT[:, :30] ** 2)
    assert isinstance(found, float)
    assert -1 < found.item() < 1


def test_file_names_are_paths_with_the_root(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, photo in enumerate(photos[:3]):
        path = tmp_path / "images" / ("coffee", "hubble")[number % 2] / photo.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(photo)
    monkeypatch.chdir(tmp_path)
    ImageDataset("./images", "./out", "pt")
    paths = [f"./{path}" for path in Path("images").rglob("*.*")]
    assert sorted(Path("out/file_names.txt").read_text().split()) == sorted(paths)
    ImageDataset("images/coffee", "out", "pt")
    assert "/" not in Path("out/file_names.txt").read_text()


def test_a_loader_of_pairs_gives_images_alone_within_the_block() -> None:
    modifier_of = import_module(
        "thingsvision_client.core.extraction.torch"
    ).ImageOnlyDataloaderModifier
    images = torch.rand(4, 3, 8, 8)
    pairs = TorchLoader(TensorDataset(images, torch.arange(4)), batch_size=2)
    before, modifier = pairs.collate_fn, modifier_of(pairs)
    with pytest.warns(UserWarning, match="is not in the correct format"):
        alone = modifier.__enter__()
    try:
        assert modifier.should_replace
        assert alone.collate_fn == modifier.new_collate_fn
        assert torch.equal(torch.cat(list(alone)), images)
    finally:
        modifier.__exit__()
    assert pairs.collate_fn == before == modifier.original_collate_fn
    plain: Any = TorchLoader(images, batch_size=2)  # type: ignore[arg-type]
    modifier = modifier_of(plain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with modifier as alone:
            assert (alone.collate_fn, modifier.original_collate_fn) == (plain.collate_fn, None)
    assert not modifier.should_replace


def test_all_modules_have_a_row_per_image(
    server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    extractor = opened(server, "squeezenet1_1", "torchvision")
    dataset = ImageDataset(photos[0].parent, tmp_path, "pt", file_names=[p.name for p in photos])
    batches = DataLoader(dataset=dataset, batch_size=2, backend=extractor.get_backend())
    found = extractor.extract_features(batches, module_names=["features.0", "classifier.1"])
    assert {len(rows) for rows in found.values()} == {len(dataset)}
    width = extractor.model.classifier[1].out_channels
    assert found["classifier.1"].shape[1] == width
