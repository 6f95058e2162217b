"""Data pipelines of a user's own: loops over batches, loaders of tensors, files as rows arrive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import TensorDataset
from torchvision import transforms

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import DataLoader, HDF5Dataset, ImageDataset, connect, get_extractor
from thingsvision_client.errors import InvalidRequestError, MissingDependencyError
from thingsvision_client.library.extractor import Extractor
from thingsvision_client.origins import origin_of

MODULES = ["features.5", "classifier.3"]
SIZE = 96
"""Height and width of the inputs, pixels: small ones are quick."""

STEPS = transforms.Compose(
    [
        transforms.Resize(SIZE),
        transforms.CenterCrop(SIZE),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)


@pytest.fixture
def extractor(server: TestServer) -> Extractor:
    connect(server.address)
    return get_extractor("squeezenet1_0", False, "cpu", "torchvision")


@pytest.fixture
def inputs(photos: list[Path]) -> torch.Tensor:
    """The photographs as torchvision preprocesses them here."""
    return torch.stack([STEPS(Image.open(path).convert("RGB")) for path in photos])


@pytest.fixture
def expected(extractor: Extractor, photos: list[Path], tmp_path: Path) -> dict[str, np.ndarray]:
    """The features of the same photographs, preprocessed by the server, two by two."""
    dataset = ImageDataset(
        photos[0].parent,
        tmp_path / "names",
        "pt",
        file_names=[path.name for path in photos],
        transforms=extractor.get_transformations(resize_dim=SIZE, crop_dim=SIZE),
    )
    features: dict[str, np.ndarray] = extractor.extract_features(
        DataLoader(dataset, 2, "pt"), module_names=MODULES
    )
    return features


def test_the_loop_over_a_pytorch_loader(
    extractor: Extractor, inputs: torch.Tensor, expected: dict[str, np.ndarray]
) -> None:
    loader = TorchDataLoader(TensorDataset(inputs, torch.arange(len(inputs))), batch_size=2)
    found = []
    with extractor.batch_extraction("classifier.3", output_type="tensor") as e:
        for batch, _targets in loader:
            features = e.extract_batch(batch=batch, flatten_acts=True)
            assert isinstance(features, torch.Tensor)
            found.append(features)
    rows = torch.cat(found).numpy()
    assert_close(rows, expected["classifier.3"].reshape(len(inputs), -1))


def test_the_loop_gives_several_modules_of_one_pass(
    extractor: Extractor, inputs: torch.Tensor, expected: dict[str, np.ndarray]
) -> None:
    with extractor.batch_extraction(module_names=MODULES) as e:
        first, second = e.extract_batch(inputs[:2]), e.extract_batch(inputs[2:4].numpy())
    for module in MODULES:
        assert list(first) == MODULES
        rows = np.concatenate([first[module], second[module]])
        assert_close(rows, expected[module][:4])


def test_a_batch_alone_as_with_tensorflow(
    extractor: Extractor, inputs: torch.Tensor, expected: dict[str, np.ndarray]
) -> None:
    batch = inputs[2:4].numpy()
    features = extractor.extract_batch(
        batch=batch, module_name="features.5", flatten_acts=False, output_type="ndarray"
    )
    assert_close(features, expected["features.5"][2:4])


def test_the_loop_over_a_loader_of_this_package(
    extractor: Extractor, photos: list[Path], expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    dataset = ImageDataset(
        photos[0].parent, tmp_path, "pt", file_names=[path.name for path in photos],
        transforms=extractor.get_transformations(resize_dim=SIZE, crop_dim=SIZE),
    )  # fmt: skip
    with extractor.batch_extraction(module_names=MODULES) as e:
        found = [e.extract_batch(batch=batch) for batch in DataLoader(dataset, 2, "pt")]
    for module in MODULES:
        rows = np.concatenate([features[module] for features in found])
        assert_close(rows, expected[module])
    origin = origin_of(found[1]["features.5"])
    assert origin is not None
    assert [image["name"] for image in origin["images"]] == dataset.names[2:4]


def batches_as(kind: str, inputs: torch.Tensor) -> Any:
    targets = torch.arange(len(inputs))
    pairs = [inputs[start : start + 2] for start in range(0, len(inputs), 2)]
    return {
        "loader of tensors": TorchDataLoader(inputs, batch_size=2),
        "loader of tuples": TorchDataLoader(TensorDataset(inputs, targets), batch_size=2),
        "list of arrays": [pair.numpy() for pair in pairs],
        "float64": [pair.numpy().astype(np.float64) for pair in pairs],
        "generator of lists": ([pair, "label"] for pair in pairs),
        "with gradients": [pair.clone().requires_grad_() for pair in pairs],
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["loader of tensors", "loader of tuples", "list of arrays", "float64", "generator of lists",
     "with gradients"],
)  # fmt: skip
def test_any_iterable_of_batches(
    kind: str, extractor: Extractor, inputs: torch.Tensor, expected: dict[str, np.ndarray]
) -> None:
    features = extractor.extract_features(batches_as(kind, inputs), module_names=MODULES)
    for module in MODULES:
        assert_close(features[module], expected[module])


def test_a_pipeline_of_unknown_length_is_read_once(
    extractor: Extractor, inputs: torch.Tensor
) -> None:
    yielded = 0

    def pipeline() -> Iterator[torch.Tensor]:
        nonlocal yielded
        for _ in range(30):
            yielded += 1
            yield inputs[:2]

    heard: list[tuple[int, int | None]] = []
    rows = extractor.extract_features(
        pipeline(), "features.12", progress=lambda _stage, done, count: heard.append((done, count))
    )
    assert (len(rows), yielded, heard[-1]) == (60, 30, (60, None))
    np.testing.assert_array_equal(rows, np.tile(rows[:2], (30, 1, 1, 1)))


def test_values_that_are_not_batches_are_refused(
    extractor: Extractor, inputs: torch.Tensor
) -> None:
    with pytest.raises(TypeError, match=r"got dict of 'pixel_values': send \(batch\['pixel_val"):
        extractor.extract_features([{"pixel_values": inputs}], "features.5")
    for wrong in ("photos", 3, {"a": inputs}):
        with pytest.raises(TypeError, match="iterable of arrays"):
            extractor.extract_features(wrong, "features.5")
    with pytest.raises(TypeError, match=r"got str: for files, use load_batches\("):
        extractor.extract_features(["a.png"], "features.5")
    with pytest.raises(TypeError, match="got an empty list"):
        extractor.extract_features([[]], "features.5")
    with pytest.raises(InvalidRequestError, match=r"got \(5,\)"):
        extractor.extract_features([np.zeros(5)], "features.5")
    with pytest.raises(InvalidRequestError, match="no batches"):
        extractor.extract_features([], "features.5")
    with pytest.raises(InvalidRequestError, match=r"can't take inputs of 96 x 96.*image\[None\]"):
        extractor.extract_features(list(inputs), "features.5")  # images, not batches of them


@pytest.mark.parametrize("length", [3, 4])
@pytest.mark.parametrize("kind", [list, tuple])
def test_several_arrays_in_a_batch_are_not_silently_left_out(
    extractor: Extractor, inputs: torch.Tensor, kind: Any, length: int
) -> None:
    batch = kind(inputs if length == 3 else inputs[:, None])
    with pytest.raises(InvalidRequestError, match=rf"got {len(inputs)} arrays.*np.stack.*batch.0"):
        extractor.extract_batch(batch, "features.5")
    with_targets = extractor.extract_batch(kind([inputs[:2], torch.arange(2)]), "features.5")
    np.testing.assert_array_equal(with_targets, extractor.extract_batch(inputs[:2], "features.5"))


def test_wrong_arguments_are_refused_before_the_loop(extractor: Extractor) -> None:
    with pytest.raises(InvalidRequestError, match="exactly one"):
        extractor.batch_extraction("features.5", ["features.5"])
    with pytest.raises(InvalidRequestError, match="`output_type` must be one of ndarray, tensor"):
        extractor.batch_extraction("features.5", output_type="list")
    with pytest.raises(
        InvalidRequestError, match=r"`module_names` must be a list or None, got 'features.5'"
    ):
        extractor.batch_extraction(module_names="features.5")


def test_tensors_need_torch(
    extractor: Extractor, inputs: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingDependencyError, match="pip install torch"):
        extractor.extract_batch(inputs, "features.5", output_type="tensor")


# ---------------------------------------------------------------- onto the disk


def test_files_of_steps_hold_the_rows_of_their_ranges(
    extractor: Extractor, inputs: torch.Tensor, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    loader = TorchDataLoader(inputs, batch_size=2)
    returned = extractor.extract_features(
        loader, module_names=MODULES, output_dir=tmp_path, step_size=1, file_name_suffix="_train"
    )
    assert returned is None
    ends = [(start, min(start + 2, len(inputs))) for start in range(0, len(inputs), 2)]
    for module in MODULES:
        files = {f"features_train_{start}-{end}.npy": (start, end) for start, end in ends}
        assert {path.name for path in (tmp_path / module).glob("*.npy")} == set(files)
        for name, (start, end) in files.items():
            rows = np.load(tmp_path / module / name)
            assert_close(rows, expected[module][start:end])


@pytest.mark.parametrize("output_type", ["ndarray", "tensor"])
def test_one_file_joins_the_steps(
    output_type: str, extractor: Extractor, inputs: torch.Tensor,
    expected: dict[str, np.ndarray], tmp_path: Path,
) -> None:  # fmt: skip
    extractor.extract_features(
        TorchDataLoader(inputs, batch_size=2), "features.5", flatten_acts=True,
        output_type=output_type, output_dir=tmp_path / "new", step_size=1, save_in_one_file=True,
    )  # fmt: skip
    ending = "npy" if output_type == "ndarray" else "pt"
    (path,) = (tmp_path / "new" / "features.5").glob(f"*.{ending}")
    assert path.name == f"features.{ending}"
    rows = np.load(path) if ending == "npy" else torch.load(path, weights_only=True).numpy()
    assert_close(rows, expected["features.5"].reshape(len(inputs), -1))


def test_images_of_a_folder_go_to_disk_with_their_transforms(
    extractor: Extractor, photos: list[Path], expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    dataset = ImageDataset(
        photos[0].parent, tmp_path, "pt", file_names=[path.name for path in photos],
        transforms=extractor.get_transformations(SIZE, SIZE),
    )  # fmt: skip
    extractor.extract_features(
        DataLoader(dataset, 2, "pt"), "features.5", output_dir=tmp_path, save_in_one_file=True
    )
    rows = np.load(tmp_path / "features.5" / "features.npy")
    assert_close(rows, expected["features.5"])


def test_a_generator_goes_to_disk_once(
    extractor: Extractor, inputs: torch.Tensor, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    generator = (inputs[start : start + 2] for start in range(0, len(inputs), 2))
    extractor.extract_features(generator, "classifier.3", output_dir=tmp_path)
    (path,) = (tmp_path / "classifier.3").glob("*.npy")
    assert_close(np.load(path), expected["classifier.3"])


# ---------------------------------------------------------------- HDF5, and origins


def test_images_in_an_hdf5_file_are_preprocessed_by_the_server(
    extractor: Extractor, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 80, 100, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "stimuli.hdf5", "w") as file:
        file["imgBrick"] = pixels
    dataset = HDF5Dataset(
        tmp_path / "stimuli.hdf5", "imgBrick", "pt", img_indices=[4, 1, 3],
        transforms=extractor.get_transformations(SIZE, SIZE),
    )  # fmt: skip
    features = extractor.extract_features(DataLoader(dataset, 3, "pt"), "features.5")
    batch = torch.stack([STEPS(Image.fromarray(pixels[index])) for index in (4, 1, 3)])
    np.testing.assert_array_equal(features, extractor.extract_batch(batch, "features.5"))
    origin = origin_of(features)
    assert origin is not None
    assert [image["name"] for image in origin["images"]] == ["4", "1", "3"]


def test_arrays_remember_where_they_came_from(
    extractor: Extractor, photos: list[Path], inputs: torch.Tensor, tmp_path: Path
) -> None:
    dataset = ImageDataset(photos[0].parent, tmp_path, "pt", file_names=[photos[1].name])
    features = extractor.extract_features(DataLoader(dataset, 1, "pt"), "classifier.3")
    origin = origin_of(features)
    assert origin is not None
    assert origin["module"] == "classifier.3"
    assert origin["image_root"] == str(photos[0].parent)
    assert origin["images"][0]["name"] == photos[1].name
    ready = origin_of(extractor.extract_batch(inputs[:2], module_names=MODULES)["features.5"])
    assert ready is not None
    assert (ready["input"], ready["image_root"], ready["batch_size"]) == ("tensor", None, 2)
