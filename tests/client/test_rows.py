"""Rows of our datasets through torch's loaders, samplers and subsets: the sampler's order decides.

The judge of each row is the mean of its image's pixels, which are all different.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    RandomSampler,
    Subset,
    WeightedRandomSampler,
    random_split,
)
from torch.utils.data import DataLoader as TorchLoader

from support.serving import TestServer
from thingsvision_client import (
    Client,
    DataLoader,
    HDF5Dataset,
    ImageDataset,
    get_extractor,
    save_features,
)
from thingsvision_client.analysis.request import model_request, request_rdms, stimuli_of
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.library.extractor import Extractor
from thingsvision_client.model_class import Model

COUNT, SIDE = 9, 32
CLASSES = ["ape", "cat", "dog"]
MODULE = "features.0"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows") / "images"
    for number in range(COUNT):
        path = folder / CLASSES[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIDE, SIDE), (20 * number, 255 - 20 * number, 7 * number)).save(path)
    return folder


@pytest.fixture
def dataset(root: Path, tmp_path: Path) -> ImageDataset:
    return ImageDataset(root, tmp_path, "pt")


@pytest.fixture(scope="module")
def extractor(server: TestServer) -> Extractor:
    return get_extractor("squeezenet1_1", False, None, "torchvision", server=server.address)


@pytest.fixture(scope="module")
def by_name(extractor: Extractor, root: Path) -> dict[str, np.ndarray]:
    """The features of each image, from a request of its own."""
    model = extractor.model
    with Client(extractor.client.server) as client:
        found = client.extract(model, root, MODULE, deterministic=True)
    return dict(zip(found.images, found.features[MODULE], strict=True))


def collected(batches: Any) -> list[str]:
    """Return the names as a loader gives them, for loaders that always give the same order."""
    return [str(row) for batch in batches for row in batch]


def loaders(dataset: ImageDataset) -> dict[str, Any]:
    seed = torch.Generator().manual_seed(3)
    order = [8, 0, 4, 4, 2]
    first, second = random_split(dataset, [5, 4], torch.Generator().manual_seed(1))
    drawn = list(RandomSampler(dataset, replacement=True, num_samples=7, generator=seed))
    weighted = list(WeightedRandomSampler([1.0] * COUNT, 6, generator=seed))
    return {
        "sampler": TorchLoader(dataset, 2, sampler=order),
        "shuffled subset": TorchLoader(Subset(dataset, order), 2, sampler=[3, 1, 0]),
        "random_split": TorchLoader(ConcatDataset([second, first]), 4),
        "subset of a subset": TorchLoader(Subset(Subset(dataset, order), [4, 0]), 1),
        "with replacement": TorchLoader(dataset, 3, sampler=drawn),
        "weighted": TorchLoader(dataset, 4, sampler=weighted),
        "batch_sampler": TorchLoader(dataset, batch_sampler=BatchSampler(order, 2, False)),
        "batches of any length": TorchLoader(dataset, batch_sampler=[[7], [1, 2, 3], [0, 7]]),
        "drop_last": TorchLoader(dataset, 4, drop_last=True),
        "no batches": TorchLoader(dataset, batch_size=None, sampler=[5, 3]),
        "own collate_fn": TorchLoader(dataset, 3, sampler=order, collate_fn=tuple),
        "workers": TorchLoader(dataset, 4, num_workers=1),
        "our loader of a subset": DataLoader(Subset(dataset, order), 2, "pt"),
        "a list of our batches": list(reversed(list(DataLoader(dataset, 2, "pt")))),
        "a generator": (batch for batch in list(DataLoader(dataset, 4, "pt"))[1:]),
    }


@pytest.mark.parametrize("kind", [
    "sampler", "shuffled subset", "random_split", "subset of a subset", "with replacement",
    "weighted", "batch_sampler", "batches of any length", "drop_last", "no batches",
    "own collate_fn", "workers", "our loader of a subset", "a list of our batches", "a generator",
])  # fmt: skip
def test_the_samplers_order_is_the_rows_order(
    kind: str,
    dataset: ImageDataset,
    extractor: Extractor,
    by_name: dict[str, np.ndarray],
) -> None:
    loader = loaders(dataset)[kind]
    is_generator = iter(loader) is loader
    if kind == "no batches":
        names = [str(row) for row in loader]
    else:
        names = collected(loaders(dataset)[kind]) if is_generator else collected(loader)
    features = extractor.extract_features(loader, MODULE)
    assert len(features) == len(names)
    for name, row in zip(names, features, strict=True):
        np.testing.assert_allclose(row, by_name[name], atol=1e-5)


def test_names_and_targets_of_a_shuffled_loader(
    server: TestServer,
    dataset: ImageDataset,
    by_name: dict[str, np.ndarray],
    tmp_path: Path,
) -> None:
    model = Model("squeezenet1_1", False, None, server=server.address, source="torchvision")
    loader = TorchLoader(dataset, 4, shuffle=True, generator=torch.Generator().manual_seed(5))
    features, targets = model.extract_features(loader, MODULE, flatten_acts=False)
    assert (targets.shape, targets.dtype) == ((COUNT, 1), np.int64)
    with pytest.warns(UserWarning, match="or another order, since a sampler chose the rows"):
        save_features(features, tmp_path, "parquet")
    names = parquet.read_table(tmp_path / "features.parquet").column("image").to_pylist()
    assert sorted(names) == sorted(dataset.names)
    assert names != dataset.names, "it is shuffled"
    for name, row, target in zip(names, features, targets, strict=True):
        np.testing.assert_allclose(row, by_name[name], atol=1e-5)
        assert CLASSES[int(target[0])] == name.partition("/")[0]


class Labelled:
    """A user's dataset around ours, with labels of its own."""

    def __init__(self, inner: ImageDataset) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.inner[row], 100 + row


def test_labels_beside_the_rows_are_the_targets(
    server: TestServer, dataset: ImageDataset, by_name: dict[str, np.ndarray]
) -> None:
    model = Model("squeezenet1_1", False, None, server=server.address, source="torchvision")
    order = [6, 2, 8, 0]
    loader: Any = TorchLoader(Labelled(dataset), 3, sampler=order)  # type: ignore[arg-type]
    features, targets = model.extract_features(loader, MODULE, flatten_acts=False)
    assert targets.ravel().tolist() == [106, 102, 108, 100]
    for row, place in zip(features, order, strict=True):
        np.testing.assert_allclose(row, by_name[dataset.names[place]], atol=1e-5)


def test_an_array_in_a_file_is_sampled_too(
    extractor: Extractor, dataset: ImageDataset, tmp_path: Path, server: TestServer
) -> None:
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["images"] = np.stack([np.asarray(Image.open(path)) for path in dataset.images])
    array = HDF5Dataset(tmp_path / "images.h5", "images", "pt")
    loader = TorchLoader(Subset(array, [7, 1, 2]), 2)
    assert collected(loader) == ["7", "1", "2"]
    whole = extractor.extract_features(DataLoader(array, 2, "pt"), MODULE)
    np.testing.assert_allclose(extractor.extract_features(loader, MODULE), whole[[7, 1, 2]], 1e-4)
    model = Model("squeezenet1_1", False, None, server=server.address, source="torchvision")
    with pytest.raises(InvalidRequestError, match="has no classes"):
        model.extract_features(loader, MODULE, flatten_acts=False)


def test_an_rdm_has_the_samplers_order(
    dataset: ImageDataset, extractor: Extractor, by_name: dict[str, np.ndarray]
) -> None:
    order = [4, 0, 8]
    stimuli = stimuli_of(TorchLoader(dataset, 4, sampler=order))
    request = model_request(extractor, None, None)
    rdms, _ = request_rdms(stimuli, request, [MODULE], metric="correlation", options={})
    assert rdms.images == [dataset.names[place] for place in order]
    rows = np.stack([by_name[name].ravel() for name in rdms.images])
    np.testing.assert_allclose(rdms.rdms[MODULE], 1 - np.corrcoef(rows), atol=1e-6)


def test_rows_can_be_pickled(dataset: ImageDataset) -> None:
    row = pickle.loads(pickle.dumps(dataset[4]))
    told = (row.name, row.target, row.root)
    assert told == (dataset.names[4], dataset.targets[4, 0], dataset.root)
    assert row.sent.load().data == Path(dataset.images[4]).read_bytes()
    assert list(map(str, dataset[-2:])) == dataset.names[-2:]
    assert {dataset[np.int64(3)].name, dataset[torch.tensor(3)].name} == {dataset.names[3]}


def test_different_preprocessing_in_one_loader_is_refused(
    dataset: ImageDataset, extractor: Extractor, tmp_path: Path
) -> None:
    changed = extractor.get_transformations(resize_dim=64, crop_dim=64)
    other = ImageDataset(dataset.root, tmp_path, "pt", transforms=changed)
    loader = TorchLoader(ConcatDataset([dataset, other]), 5)
    with pytest.raises(InvalidRequestError, match=r"must have the same `transforms`, got .*64"):
        extractor.extract_features(loader, MODULE)
    alike = ImageDataset(dataset.root, tmp_path, "pt", transforms=changed)
    batches = TorchLoader(ConcatDataset([other, alike]), 9)
    rows = extractor.extract_features(batches, MODULE)
    np.testing.assert_array_equal(rows[:COUNT], rows[COUNT:])
    with pytest.raises(InvalidRequestError, match=r"with `transforms`, which this call can't see"):
        extractor.client.extract(extractor.model, list(other[:2]), MODULE)


def test_a_mixture_is_refused(dataset: ImageDataset, extractor: Extractor) -> None:
    batches = [dataset[:2], np.zeros((2, 3, 64, 64), np.float32)]
    with pytest.raises(TypeError, match="All batches must have images of a dataset"):
        extractor.extract_features(batches, MODULE)
    with pytest.raises(TypeError, match="items by number and not be empty, got Subset"):
        DataLoader(Subset(dataset, []), 2, "pt")


def test_a_loader_in_the_place_of_images_says_what_to_give(
    dataset: ImageDataset, server: TestServer
) -> None:
    loader = DataLoader(dataset, 4, "pt")
    with Client(server.address) as client:
        for images in (loader, TorchLoader(dataset, batch_size=4)):
            with pytest.raises(TypeError, match=r"give this call loader.queue\(\)"):
                client.fit_pca("torchvision/squeezenet1_1@random:0", images, MODULE, components=2)


def test_a_row_that_is_not_there_is_told(dataset: ImageDataset) -> None:
    with pytest.raises(IndexError, match=f"A row must be from 0 to {COUNT - 1}, got {COUNT}"):
        _ = dataset[COUNT]
