"""Datasets: classes, arrays in HDF5 files, pixels as PNG, figures in EPS."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import stat
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from support.sent_images import messages
from thingsvision_client import DataLoader, HDF5Dataset, ImageDataset, load_batches
from thingsvision_client.errors import ImageError, InvalidRequestError, MissingDependencyError
from thingsvision_client.images.png import png_of

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)

FIGURE = """%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 40 20
1 0 0 setrgbcolor 0 0 20 20 rectfill
0 0 1 setrgbcolor 20 0 20 20 rectfill
showpage
%%EOF
"""


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    return root


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


# ---------------------------------------------------------------- classes


def test_targets_are_places_in_the_sorted_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", "dog/b.png", "dog/a/z.png", "Cat/1.png", "ape/1.png")
    dataset = ImageDataset(root, tmp_path, "pt")
    assert dataset.classes == ["Cat", "ape", "dog"]
    assert list(zip(dataset.names, dataset.targets.tolist(), strict=True)) == [
        ("Cat/1.png", [0]), ("ape/1.png", [1]), ("dog/b.png", [2]), ("dog/a/z.png", [2])
    ]  # fmt: skip
    assert (dataset.targets.dtype, dataset.targets.shape) == (np.int64, (4, 1))
    assert dataset.images[0] == str(root / "Cat/1.png")
    assert dataset[-1].name == "dog/a/z.png"


def test_targets_follow_file_names_but_classes_stay_those_of_the_folder(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", "ü x/b.png", "ape/1.png", "ape/2.png", "zoo/1.png", "top.png")
    asked = ["zoo/1.png", "ape/2.png", "zoo/1.png", "top.png", "ape/1.png"]
    dataset = ImageDataset(root, tmp_path, "tf", file_names=asked)
    assert dataset.classes == ["ape", "top.png", "zoo", "ü x"]
    assert dataset.targets.ravel().tolist() == [2, 0, 2, 1, 0]


def test_class_names_number_the_classes_in_their_order(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", "a/1.png", "b/deep/1.png", "c/1.png")
    dataset = ImageDataset(root, tmp_path, "pt", class_names=["c", "b/deep"])
    assert dataset.names == ["c/1.png", "b/deep/1.png"]
    assert dataset.targets.ravel().tolist() == [0, 1]


def test_without_classes_each_image_is_its_own(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", "a.png", "c.png", "b.png")
    dataset = ImageDataset(root, tmp_path, "pt", file_names=["c.png", "a.png", "c.png"])
    assert dataset.classes == ["c.png", "a.png"]
    assert dataset.targets.ravel().tolist() == [0, 1, 0]


def test_load_batches_is_a_dataset_and_its_loader(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", *(f"{i}.png" for i in range(5)))
    batches = load_batches(root, tmp_path / "out", "pt", 2, file_names=["3.png", "0.png", "4.png"])
    assert isinstance(batches, DataLoader)
    assert [batch.names for batch in batches] == [["3.png", "0.png"], ["4.png"]]
    assert (tmp_path / "out/file_names.txt").read_text() == "3.png\n0.png\n4.png\n"


# ---------------------------------------------------------------- pixels as PNG


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7), (1, 1), (9, 2, 4), (3, 3, 1), (4, 3, 2)])
def test_a_png_has_the_very_pixels(shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    expected = pixels[:, :, 0] if shape[2:] == (1,) else pixels
    np.testing.assert_array_equal(decoded(png_of(pixels)), expected)
    np.testing.assert_array_equal(decoded(png_of(pixels[::-1])), expected[::-1])


@pytest.mark.parametrize(
    "pixels", [PIXELS, PIXELS[0].astype(float), PIXELS[0, :0], PIXELS[0, 0, 0]]
)
def test_arrays_that_are_not_pixels_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InvalidRequestError, match="must be uint8 pixels"):
        png_of(pixels)


# ---------------------------------------------------------------- HDF5


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    path = tmp_path / "stimuli.hdf5"
    with h5py.File(path, "w") as file:
        file["imgBrick"] = PIXELS
        file["grey"] = PIXELS[..., 0]
        file["flat"] = PIXELS[:, :5, :5].reshape(6, 75)
        file["floats"] = PIXELS / 255
        file["none"] = PIXELS[:0]
        file["odd"] = PIXELS.reshape(6, -1)
        file["group/inner"] = PIXELS
    return path


def test_images_of_an_array_are_sent_as_they_are(hdf5: Path) -> None:
    dataset = HDF5Dataset(hdf5_fp=str(hdf5), img_ds_key="imgBrick", backend="pt")
    sent = [(m.index, m.name, decoded(m.encoded)) for m in messages(dataset.queue())]
    assert [entry[:2] for entry in sent] == [(i, str(i)) for i in range(6)]
    for (_, _, pixels), expected in zip(sent, PIXELS, strict=True):
        np.testing.assert_array_equal(pixels, expected)
    assert len(DataLoader(dataset, 4, "pt")) == 2


@pytest.mark.parametrize(
    ("key", "layout", "expected"),
    [
        ("grey", "NHW", PIXELS[..., 0]),
        ("flat", "N(HWC)", PIXELS[:, :5, :5]),
        ("group/inner", None, PIXELS),
    ],
)
def test_img_indices_give_exactly_their_order(
    hdf5: Path, key: str, layout: str | None, expected: np.ndarray
) -> None:
    wanted = np.array([5, 0, 5, 2])
    folder = hdf5.parent
    dataset = HDF5Dataset(hdf5, key, "pt", img_indices=wanted, out_path=folder, layout=layout)
    queue = dataset.queue()
    assert (len(dataset), queue.count) == (4, 4)
    sent = [decoded(message.encoded) for message in messages(queue)]
    np.testing.assert_array_equal(sent, expected[wanted])
    assert (hdf5.parent / "file_names.txt").read_text() == "5\n0\n5\n2\n"


@pytest.mark.parametrize(
    ("key", "indices", "sentence"),
    [
        ("imgbrick", None, r"no array 'imgbrick'; it has .*imgBrick"),
        ("group", None, "no array 'group'"),
        ("none", None, r"has no values: its shape is \(0, 5, 7, 3\)"),
        ("floats", None, r"must be uint8 images, .* got float64 of shape \(6, 5, 7, 3\)"),
        ("odd", None, r"choose by layout= .* 'HW': 1 grey image of 6 x 105"),
        ("imgBrick", [0, 6, -1], r"`img_indices` must be from 0 to 5, .* got \[6, -1\]"),
        ("imgBrick", [], "at least one index, got none"),
    ],
)
def test_arrays_of_no_images_are_refused(
    hdf5: Path, key: str, indices: list[int] | None, sentence: str
) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        HDF5Dataset(hdf5, key, "pt", img_indices=indices)


def test_files_that_are_not_hdf5_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("text")
    for name, why in (("text.h5", "of another format"), ("missing.h5", "No such file")):
        with pytest.raises(InvalidRequestError, match=f"Can't read .*{name} as HDF5: .*{why}"):
            HDF5Dataset(tmp_path / name, "imgBrick", "pt")


def test_h5py_is_asked_for_where_it_is_used(hdf5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"service\[hdf5\]"):
        HDF5Dataset(hdf5, "imgBrick", "pt")


# ---------------------------------------------------------------- EPS


def test_a_figure_is_drawn_if_ghostscript_is_installed(tmp_path: Path) -> None:
    if shutil.which("gs") is None:
        pytest.skip("needs Ghostscript")
    (tmp_path / "figure.EPS").write_text(FIGURE)
    dataset = ImageDataset(tmp_path, tmp_path / "out", "pt")
    (message,) = messages(dataset.queue())
    assert message.name == "figure.EPS"
    pixels = decoded(message.encoded)
    assert pixels.shape == (20, 40, 3)
    assert pixels[:, :20].reshape(-1, 3).max(axis=0).tolist() == [255, 0, 0]
    np.testing.assert_array_equal(pixels[5, 30], [0, 0, 255])


def test_without_ghostscript_a_figure_is_named_with_what_draws_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # what Pillow found, it remembers
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "figure.eps").write_text(FIGURE)
    queue = ImageDataset(tmp_path, tmp_path / "out", "pt").queue()
    with pytest.raises(MissingDependencyError, match=r"'figure\.eps' is EPS.*install Ghostscript"):
        list(messages(queue))


def test_without_pillow_a_figure_is_named_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    (tmp_path / "figure.eps").write_text(FIGURE)
    queue = ImageDataset(tmp_path, tmp_path / "out", "pt").queue()
    with pytest.raises(MissingDependencyError, match=r"service\[eps\]"):
        list(messages(queue))


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")
def test_a_figure_that_can_not_be_drawn_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import EpsImagePlugin

    program = tmp_path / "gs"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] || exit 3\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "figure.eps").write_text(FIGURE)
    with pytest.raises(ImageError, match=r"'figure\.eps' can't be drawn: Ghostscript failed"):
        list(messages(ImageDataset(tmp_path, tmp_path / "out", "pt").queue()))


# ---------------------------------------------------------------- attributes


def test_assigned_attributes_have_an_effect_or_raise(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", "a.png", "b.png", "c.png")
    dataset = ImageDataset(root, tmp_path, "pt")
    dataset.transforms = transforms.Compose([transforms.Resize(9), transforms.ToTensor()])
    assert "resize_pixels=[9]" in repr(dataset.transforms)
    with pytest.raises(InvalidRequestError):
        dataset.transforms = "imagenet"
    loader = DataLoader(dataset, batch_size=2, backend="pt")
    loader.batch_size = np.int64(1)
    assert [len(batch) for batch in loader] == [1, 1, 1]
    for size in (0, 1.5, None):
        with pytest.raises(InvalidRequestError, match="`batch_size` must be"):
            loader.batch_size = size
    of_dataset = [(dataset, name) for name in ("transform", "root", "names", "targets")]
    for owner, name in (*of_dataset, (loader, "shuffle"), (loader, "dataset")):
        with pytest.raises(AttributeError, match=f"`{name}` of .* can't be assigned"):
            setattr(owner, name, None)
    again = pickle.loads(pickle.dumps(loader))
    assert (again.batch_size, again.dataset.names) == (1, dataset.names)


def test_subclasses_of_users_may_have_attributes_of_their_own(tmp_path: Path) -> None:
    class Own(ImageDataset):
        def __init__(self) -> None:
            self.split = "train"
            super().__init__(fill(tmp_path / "images", "a.png"), tmp_path, "pt")
            self.labels = [1]

    assert (Own().split, Own().labels) == ("train", [1])
    with pytest.raises(AttributeError, match="`names` of Own can't be assigned"):
        Own().names = []
