"""Items of our datasets and batches of loaders, which scripts use as preprocessed inputs.

The judge is torchvision on this machine.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import Subset
from torchvision import transforms as steps

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import DataLoader, ImageDataset, get_extractor, vision
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.library.extractor import Extractor
from thingsvision_client.model_class import Model

COUNT, MODULE = 5, "features.0"
LIBRARYS = steps.Compose(
    [
        steps.Resize(256),
        steps.CenterCrop(224),
        steps.ToTensor(),
        steps.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)
"""What the library gives networks of torchvision that were made with pretrained=False."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / "images"
    random = np.random.default_rng(4)
    for number in range(COUNT):
        path = folder / ("ape", "cat")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def extractor(server: TestServer) -> Extractor:
    return get_extractor("squeezenet1_1", False, None, "torchvision", server=server.address)


@pytest.fixture
def dataset(root: Path, tmp_path: Path, extractor: Extractor) -> ImageDataset:
    return ImageDataset(root, tmp_path, "pt", transforms=extractor.get_transformations())


@pytest.fixture
def judge(dataset: ImageDataset) -> torch.Tensor:
    return torch.stack([LIBRARYS(Image.open(path)) for path in dataset.images])


def test_an_item_is_used_as_the_preprocessed_input(
    dataset: ImageDataset, judge: torch.Tensor
) -> None:
    item: Any = dataset[1]
    assert (item.shape, len(item), item.dtype) == ((3, 224, 224), 3, torch.float32)
    torch.testing.assert_close(item.values, judge[1])
    for found in (torch.as_tensor(item), torch.from_numpy(np.asarray(item)), item.clone()):
        assert torch.equal(found, item.values)
    assert torch.equal(torch.stack([dataset[0], item]), torch.stack([dataset[0].values, item]))
    assert torch.equal(1 + item * 2 - judge[0], 1 + item.values * 2 - judge[0])
    assert torch.equal(torch.cat((item, item))[3:], item.values)
    assert bool((item == item.values).all())
    network = torch.nn.Conv2d(3, 2, 3)
    assert torch.equal(network(item.unsqueeze(0)), network(item.values[None]))
    row = pickle.loads(pickle.dumps(item))
    assert (row.name, row.target, str(copy.copy(item))) == ("ape/2.png", 0, "ape/2.png")


def loaders() -> dict[str, Callable[[ImageDataset], Any]]:
    every = list(range(COUNT))
    return {
        "ours": lambda dataset: DataLoader(dataset, 2, "pt"),
        "ours of a subset": lambda dataset: DataLoader(Subset(dataset, every), 2, "pt"),
        "torch's": lambda dataset: TorchLoader(dataset, 2),
        "torch's of a subset": lambda dataset: TorchLoader(Subset(dataset, every), 2),
        "with a worker": lambda dataset: TorchLoader(dataset, 2, num_workers=1),
    }


@pytest.mark.parametrize("kind", loaders())
def test_batches_are_inputs_and_go_to_extractors_as_files(
    kind: str,
    dataset: ImageDataset,
    extractor: Extractor,
    judge: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loader = loaders()[kind](dataset)
    batch = next(iter(loader))
    assert (batch.shape, len(batch)) == ((2, 3, 224, 224), 2)
    torch.testing.assert_close(batch.values, judge[:2])
    network = torch.nn.Conv2d(3, 2, 3)
    assert torch.equal(network(batch), network(batch.values))
    assert [str(row) for row in batch[1:]] == dataset.names[1:2]
    expected = extractor.extract_features(list(judge.split(2)), MODULE)

    def refuse(*_: Any) -> Any:
        raise AssertionError("inputs were made for an extraction")

    monkeypatch.setattr(type(extractor.client), "preprocess", refuse)
    assert_close(extractor.extract_features(loader, MODULE), expected, 1e-5)
    with extractor.batch_extraction(MODULE) as e:
        rows = [e.extract_batch(batch, flatten_acts=False) for batch in loader]
    assert_close(np.concatenate(rows), expected, 1e-5)


def test_a_users_own_collate_function_gets_tensors(
    dataset: ImageDataset, judge: torch.Tensor
) -> None:
    loader: Any = TorchLoader(dataset, 3, collate_fn=torch.stack)
    torch.testing.assert_close(torch.cat(list(loader)), judge)


def test_a_users_own_steps_are_applied_to_items_on_this_machine(
    root: Path, tmp_path: Path, judge: torch.Tensor
) -> None:
    own = ImageDataset(root, tmp_path, "pt", transforms=LIBRARYS)
    assert torch.equal(torch.stack([own[row].values for row in range(COUNT)]), judge)
    without: Any = ImageDataset(root, tmp_path, "pt")[0]
    with pytest.raises(InvalidRequestError, match="get_transformations"):
        without.shape  # noqa: B018 - it needs the values


class Own:
    """A user's dataset of ready inputs, with labels or without."""

    def __init__(self, inputs: torch.Tensor, *, has_labels: bool) -> None:
        self.inputs = inputs
        self.has_labels = has_labels

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, place: int) -> Any:
        return (self.inputs[place], place) if self.has_labels else self.inputs[place]


@pytest.mark.parametrize("has_labels", [False, True])
def test_our_loader_takes_any_dataset(
    has_labels: bool, extractor: Extractor, judge: torch.Tensor
) -> None:
    loader = DataLoader(Own(judge, has_labels=has_labels), 2, "pt")
    assert len(loader) == 3
    batches = list(loader)
    images = [batch[0] for batch in batches] if has_labels else batches
    assert torch.equal(torch.cat(images), judge)
    expected = extractor.extract_features(list(judge.split(2)), MODULE)
    np.testing.assert_array_equal(extractor.extract_features(loader, MODULE), expected)


def test_arrays_and_images_in_memory_are_items_too(
    dataset: ImageDataset, extractor: Extractor, judge: torch.Tensor
) -> None:
    expected = extractor.extract_features(list(judge.split(2)), MODULE)
    arrays = DataLoader([image.numpy() for image in judge], 2, "pt")
    np.testing.assert_array_equal(extractor.extract_features(arrays, MODULE), expected)
    pictures = DataLoader([Image.open(path) for path in dataset.images], 2, "pt")
    assert_close(extractor.extract_features(pictures, MODULE), expected, 1e-5)


def test_items_and_batches_of_the_papers_datasets_are_pairs(
    server: TestServer, root: Path, tmp_path: Path, extractor: Extractor, judge: torch.Tensor
) -> None:
    loader = vision.load_dl(root, tmp_path, "pt", 2, transforms=extractor.get_transformations())
    inputs, targets = next(iter(loader))
    assert (inputs.shape, targets.tolist()) == ((2, 3, 224, 224), [[0], [0]])
    image, target = loader.dataset[3]
    torch.testing.assert_close(image.values, judge[3])
    assert target.tolist() == [1]
    model = Model("squeezenet1_1", False, None, server=server.address, source="torchvision")
    expected = extractor.extract_features(list(judge.split(2)), MODULE)
    for batches in (loader, TorchLoader(Subset(loader.dataset, range(COUNT)), 2), list(loader)):
        features, numbers = model.extract_features(batches, MODULE, flatten_acts=False)
        assert_close(features, expected, 1e-5)
        assert numbers.ravel().tolist() == [0, 0, 0, 1, 1]
