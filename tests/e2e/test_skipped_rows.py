"""Skipped images leave the datasets of torch's loaders too; where they can't, an error says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import ConcatDataset, Subset
from torch.utils.data import DataLoader as TorchDataLoader

from support.serving import TestServer
from support.tiny_photos import write_tiny_photos
from thingsvision_client import DataLoader, HDF5Dataset, ImageDataset, get_extractor
from thingsvision_client.errors import BadImagesError
from thingsvision_client.images.folder import image_names
from thingsvision_client.library.extractor import Extractor

MODULE, BATCH = "features.3", 3
BAD = (1, 6)
COUNT = 8


@pytest.fixture
def extractor(server: TestServer) -> Extractor:
    return get_extractor("squeezenet1_0", False, "cpu", "torchvision", server=server.address)


@pytest.fixture
def folder(photos: list[Path], tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    write_tiny_photos(root, photos, COUNT)
    names = image_names(root)
    for place in BAD:
        content = (root / names[place]).read_bytes()
        (root / names[place]).unlink()
        (root / names[place]).write_bytes(content[: len(content) // 2])
    return root


def dataset_of(folder: Path, **options: Any) -> ImageDataset:
    return ImageDataset(folder, folder.parent / "names", "pt", **options)


@pytest.mark.parametrize("workers", [0, 1])
def test_torch_loaders_of_a_dataset(extractor: Extractor, folder: Path, workers: int) -> None:
    dataset = dataset_of(folder)
    names = list(dataset.names)
    loader = TorchDataLoader(dataset, batch_size=BATCH, num_workers=workers)
    ours = DataLoader(dataset_of(folder), BATCH, "pt")
    expected = extractor.extract_features(ours, MODULE, on_error="skip")
    for _ in range(2):  # the second time without the bad images
        rows = extractor.extract_features(loader, MODULE, on_error="skip")
        np.testing.assert_allclose(rows, expected, atol=1e-5)
        assert dataset.names == [name for place, name in enumerate(names) if place not in BAD]
        assert len(rows) == len(dataset.names) == len(dataset.targets) == len(dataset) == COUNT - 2
        lines = (folder.parent / "names" / "file_names.txt").read_text().splitlines()
        assert lines == dataset.names
        assert [one.place for one in dataset.skipped] == list(BAD)


def test_a_shuffled_loader(extractor: Extractor, folder: Path, tmp_path: Path) -> None:
    dataset = dataset_of(folder)
    names = list(dataset.names)
    loader = TorchDataLoader(dataset, batch_size=BATCH, shuffle=True)
    extractor.extract_features(
        loader, MODULE, on_error="skip", output_dir=tmp_path / "out", save_in_one_file=True
    )
    assert [one.name for one in dataset.skipped] == [names[place] for place in BAD]
    assert len(np.load(tmp_path / "out" / MODULE / "features.npy")) == len(dataset.names)


@pytest.mark.parametrize("make", [
    lambda parts: TorchDataLoader(parts, batch_size=BATCH),
    lambda parts: DataLoader(parts, BATCH, "pt"),
])  # fmt: skip
def test_joined_datasets(extractor: Extractor, folder: Path, make: Callable[..., Any]) -> None:
    names = image_names(folder)
    first = dataset_of(folder, file_names=names[5:])
    second = dataset_of(folder, file_names=names[:5])
    both = first + second
    assert isinstance(both, ConcatDataset)
    assert len(both) == COUNT
    rows = extractor.extract_features(make(both), MODULE, on_error="skip")
    assert first.names + second.names == [
        name for name in (*names[5:], *names[:5]) if name not in (names[1], names[6])
    ]
    assert len(rows) == len(both) == COUNT - 2
    assert [str(both[row]) for row in range(len(both))] == first.names + second.names


def parts_of(dataset: ImageDataset) -> dict[str, Any]:
    loader = TorchDataLoader(dataset, batch_size=BATCH)
    half = Subset(dataset, range(5))
    return {
        "Subset": TorchDataLoader(half, batch_size=BATCH),
        "our loader of a Subset": DataLoader(half, BATCH, "pt"),
        "list": list(loader),
        "batches one by one": [next(iter(loader))],
        "a batch of ours": next(iter(DataLoader(dataset, BATCH, "pt"))),
        "a sampler of a part": TorchDataLoader(dataset, batch_size=BATCH, sampler=[0, 1, 2]),
        "with replacement": TorchDataLoader(dataset, batch_size=BATCH, sampler=[1] * 7 + [0]),
    }


@pytest.mark.parametrize(
    "kind",
    [
        "Subset",
        "our loader of a Subset",
        "list",
        "batches one by one",
        "a batch of ours",
        "a sampler of a part",
        "with replacement",
    ],
)
def test_parts_whose_names_cannot_follow(
    extractor: Extractor, folder: Path, tmp_path: Path, kind: str
) -> None:
    dataset = dataset_of(folder)
    names = list(dataset.names)
    batches = parts_of(dataset)[kind]
    with pytest.raises(BadImagesError, match=r"of whole datasets only.*file_names=") as caught:
        extractor.extract_features(batches, MODULE, on_error="skip")
    assert caught.value.bad[0].name == names[BAD[0]]
    assert caught.value.result is not None
    assert dataset.names == names
    if kind != "batches one by one":
        out = tmp_path / "out"
        with pytest.raises(BadImagesError, match=f"complete in {out}"):
            extractor.extract_features(batches, MODULE, on_error="skip", output_dir=out)


def test_a_part_without_bad_images_is_like_any_other(extractor: Extractor, folder: Path) -> None:
    loader = TorchDataLoader(Subset(dataset_of(folder), [0, 2, 3]), batch_size=BATCH)
    assert len(extractor.extract_features(loader, MODULE, on_error="skip")) == 3


def test_sums_of_other_things(folder: Path, tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["images"] = np.zeros((9, 40, 32, 3), np.uint8)
    stored = HDF5Dataset(tmp_path / "images.h5", "images", "pt")
    assert len(stored + dataset_of(folder) + stored) == 9 + COUNT + 9
    for other in ("images", [1], 3, None):
        with pytest.raises(TypeError, match="unsupported operand"):
            stored + other
