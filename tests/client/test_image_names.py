"""However a user spells the path of an image, it names the same row and the same class."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest

from thingsvision_client import ImageDataset, vision
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.figures.categories import category_labels
from thingsvision_client.images.folder import image_names
from thingsvision_client.labels import rows_of

NAMES = ["cat/1.jpg", "cat/deep/2.jpg", "dog/b.jpg"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    return tmp_path / "images"


def dataset(root: Path, names: Any, **options: Any) -> ImageDataset:
    return ImageDataset(root, root.parent / "out", "pt", file_names=names, **options)


@pytest.mark.parametrize(
    "spell",
    [
        lambda root, name: str(root / name),
        lambda root, name: root / name,
        lambda _root, name: f"./{name}",
        lambda _root, name: name.replace("/", "//"),
        lambda _root, name: f"cat/../{name}",
        lambda root, name: f"../{root.name}/{name}",
        lambda root, name: os.fspath(root / "cat" / ".." / name),
        lambda _root, name: str(PureWindowsPath(name)),
        lambda _root, name: f".\\cat\\..\\{PureWindowsPath(name)}",
        lambda _root, name: f"images/{name}",  # as glob("images/**/*.jpg") gives them
        lambda _root, name: np.str_(name),
    ],
)
def test_every_spelling_names_the_same_rows_and_classes(
    root: Path, spell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    asked = [NAMES[2], NAMES[0], NAMES[1], NAMES[0]]
    found = dataset(root, [spell(root, name) for name in asked])
    assert found.names == asked
    assert found.classes == ["cat", "dog"]
    assert found.targets.ravel().tolist() == [1, 0, 0, 0]
    lines = (root.parent / "out/file_names.txt").read_text().splitlines()
    assert lines == [os.path.join(root, name) for name in asked]  # noqa: PTH118
    assert dataset(root, lines).names == asked


def test_a_relative_root_and_absolute_names_agree(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(root.rglob("*.jpg"))
    monkeypatch.chdir(root)
    assert image_names(Path(), file_names=names) == NAMES  # type: ignore[arg-type]
    assert image_names(Path("cat/.."), file_names=names) == NAMES  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "outside", ["../elsewhere.jpg", "/etc/passwd", "cat/../../elsewhere.jpg", "..\\elsewhere.jpg"]
)
def test_paths_outside_the_root_are_refused(root: Path, outside: str) -> None:
    (root.parent / "elsewhere.jpg").write_bytes(b"an image")
    with pytest.raises(InvalidRequestError, match=r"must be below .* choose a root") as caught:
        dataset(root, [NAMES[0], outside])
    assert caught.value.subject == outside


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_keep_their_names_and_the_folders_they_lead_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "store/inner").mkdir(parents=True)
    (tmp_path / "store/3.jpg").write_bytes(b"an image")
    (root / "cat/3.jpg").symlink_to(tmp_path / "store/3.jpg")
    (root / "dog/inner").symlink_to(tmp_path / "store/inner")
    (tmp_path / "same").symlink_to(root)
    assert image_names(root, file_names=[str(root / "cat/3.jpg")]) == ["cat/3.jpg"]
    assert image_names(root, file_names=[str(tmp_path / "same/dog/b.jpg")]) == ["dog/b.jpg"]
    assert image_names(tmp_path / "same", file_names=[str(root / "cat/1.jpg")]) == ["cat/1.jpg"]
    with pytest.raises(InvalidRequestError, match="must be below"):  # dog/3.jpg by its letters
        image_names(root, file_names=["dog/inner/../3.jpg"])


@pytest.mark.skipif(sys.platform == "win32", reason="a backslash is a separator there")
def test_a_file_whose_name_has_a_backslash_is_that_file(root: Path) -> None:
    (root / "cat\\1.jpg").write_bytes(b"an image")
    assert image_names(root, file_names=["cat\\1.jpg", "dog\\b.jpg"]) == ["cat\\1.jpg", "dog/b.jpg"]


def test_class_names_may_be_spelled_too(root: Path) -> None:
    found = dataset(root, None, class_names=["dog/", str(root / "cat/deep"), ".\\cat"][:2])
    assert found.classes == ["dog", "cat/deep"]
    assert found.names == ["dog/b.jpg", "cat/deep/2.jpg"]
    assert found.targets.ravel().tolist() == [0, 1]
    chosen = dataset(root, [NAMES[1]], class_names=["cat\\deep", "dog"])
    assert (chosen.names, chosen.targets.tolist()) == ([NAMES[1]], [[0]])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"file_names": ["cat/1.jpg", float("nan")]}, r"`file_names` must be names .* got nan"),
        ({"file_names": [b"cat/1.jpg"]}, r"must be names .* got b'cat/1.jpg' \(bytes\)"),
        ({"file_names": [True, False, True]}, r"must be names .* got True"),
        ({"file_names": "cat/1.jpg"}, r"must be a list or None, got 'cat/1.jpg'"),
        ({"file_names": 3}, "must be a list or None, got 3"),
        ({"file_names": []}, "must have at least one name, got none: leave it out for all images"),
        ({"class_names": "cat"}, "`class_names` must be a list"),
        ({"class_names": ["cat", "./cat"]}, "must be unique, got 'cat' twice"),
        ({"class_names": ["."]}, "must be folders below"),
        ({"class_names": ["../images"]}, "must be folders below"),
        ({"class_names": [".."]}, "must be below"),
    ],
)
def test_what_is_not_a_name_is_refused(
    root: Path, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        ImageDataset(root, root.parent / "out", "pt", **arguments)


# ---------------------------------------------------------------- elsewhere


def test_names_of_references_are_matched_however_they_are_spelled() -> None:
    images = ["cat/1.jpg", "dog/b.jpg"]
    for names in (
        ["dog\\b.jpg", "cat\\1.jpg"],
        ["./dog/b.jpg", "./cat/1.jpg"],
        ["cat/../dog/b.jpg", "dog/../cat/1.jpg"],
        ["C:\\data\\dog\\b.jpg", "C:\\data\\cat\\1.jpg"],
        ["/data/dog/b.jpg", "/data/cat/1.jpg"],
    ):
        assert rows_of(images, names, "IT") == [1, 0]
        assert rows_of(names, images, "IT") == [1, 0]


def test_categories_are_the_folders_however_they_are_spelled() -> None:
    images = ["cat\\1.jpg", "./dog/b.jpg", "cat/../dog/c.jpg"]
    assert category_labels("folders", images, 3) == ["cat", "dog", "dog"]


def test_lists_of_imagenet_number_absolute_names(root: Path) -> None:
    (root / "LOC_synset_mapping.txt").write_text("n01 tench\nn02 goldfish\n")
    (root / "LOC_images_solution.csv").write_text("ImageId,PredictionString\n1,n02 0\nb,n01 0\n")
    names = [str(root / "cat/1.jpg"), "cat/../dog/b.jpg"]
    loader = vision.load_dl(root, root.parent / "out", "pt", 2, imagenet_val=True, file_names=names)
    assert loader.dataset.names == ["cat/1.jpg", "dog/b.jpg"]
    assert loader.dataset.targets.ravel().tolist() == [1, 0]  # type: ignore[union-attr]


# ---------------------------------------------------------------- hidden and tool folders

TOOLS = [
    ".ipynb_checkpoints/1-checkpoint.jpg",
    "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
    ".AppleDouble/1.jpg",
    "__MACOSX/._1.jpg",
    "__MACOSX/1.jpg",
    "#recycle/1.jpg",
    ".@__thumb/default1.jpg",
    "._1.jpg",
    ".DS_Store",
    "Thumbs.db",
]


@pytest.mark.parametrize("place", ["", "cat/", "cat/deep/"])
def test_hidden_and_tool_folders_are_neither_classes_nor_rows(root: Path, place: str) -> None:
    for name in TOOLS:
        path = root / f"{place}{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    found = dataset(root, None)
    assert found.names == NAMES
    assert found.classes == ["cat", "dog"]
    assert image_names(root, class_names=["cat"]) == NAMES[:2]


def test_a_root_in_a_hidden_folder_has_its_images(tmp_path: Path) -> None:
    root = tmp_path / ".cache/@eaDir"
    (root / "cat").mkdir(parents=True)
    (root / "cat/1.jpg").write_bytes(b"an image")
    assert image_names(root) == ["cat/1.jpg"]


def test_client_and_server_leave_out_the_same_folders() -> None:
    from thingsvision_client.images import folder
    from thingsvision_server.engine.images import server_images

    assert folder._TOOL_FOLDERS == server_images._TOOL_FOLDERS
