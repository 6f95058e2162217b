import os
import sys
from pathlib import Path
from typing import Any

import pytest

from thingsvision_client import DataLoader, ImageDataset
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.inspection import inspect_headers
from thingsvision_client.images.queue import queue_files


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    return root


def test_flat_folder_is_sorted_by_code_point(tmp_path: Path) -> None:
    fill(tmp_path, "b.png", "a.JPG", "Z.jpeg", "é.webp", "10.gif", "9.bmp", "x.TiFf", "y.tif")
    fill(tmp_path, "notes.txt", "._a.jpg", ".cache/thumb.png")
    assert image_names(tmp_path) == [
        "10.gif", "9.bmp", "Z.jpeg", "a.JPG", "b.png", "x.TiFf", "y.tif", "é.webp"
    ]  # fmt: skip


def test_classes_are_walked_folder_by_folder(tmp_path: Path) -> None:
    fill(tmp_path, "dog/b.png", "dog/a/z.png", "dog/a-b/c.png", "Cat/1.png", "empty/readme.md")
    expected = ["Cat/1.png", "dog/b.png", "dog/a/z.png", "dog/a-b/c.png"]
    assert image_names(tmp_path) == expected


def test_class_names_give_their_order_and_leave_others_out(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png", "c/1.png", "loose.png")
    assert image_names(tmp_path, class_names=["c", "a"]) == ["c/1.png", "a/1.png"]
    with pytest.raises(InvalidRequestError, match=r"no folders 'dogs'; it has 'a', 'b', 'c'"):
        image_names(tmp_path, class_names=["a", "dogs"])


def test_file_names_give_exactly_their_order(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "a/deep/er/2.png", "b/1.png", "ü/日本.png", "top.png")
    wanted = ["b/1.png", "a/deep/er/2.png", "top.png", "ü/日本.png", "a/1.png", "b/1.png"]
    assert image_names(tmp_path, file_names=wanted) == wanted


def test_missing_file_names_are_named_before_anything_is_written(tmp_path: Path) -> None:
    fill(tmp_path / "images", "a/1.png")
    with pytest.raises(InvalidRequestError, match=r"'a/2\.png', '1\.png'"):
        ImageDataset(
            tmp_path / "images", tmp_path, "pt", file_names=["a/1.png", "a/2.png", "1.png"]
        )
    assert not (tmp_path / "file_names.txt").exists()


def test_file_names_outside_class_names_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    with pytest.raises(InvalidRequestError, match=r"none of class_names: 'b/1\.png'"):
        image_names(tmp_path, ["a"], ["a/1.png", "b/1.png"])


def test_images_beside_folders_are_ambiguous(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "loose.png")
    with pytest.raises(InvalidRequestError, match=r"loose\.png"):
        image_names(tmp_path)


def test_eps_is_an_image_in_any_letter_case(tmp_path: Path) -> None:
    fill(tmp_path, "b.png", "figure.EPS", "a.eps")
    assert image_names(tmp_path) == ["a.eps", "b.png", "figure.EPS"]


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_without_images_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequestError):
        image_names(tmp_path / name)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_to_nothing_are_missing_images_and_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "2.png").symlink_to(".git/annex/objects/2.png")
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "notes.txt").symlink_to("nothing")
    assert image_names(tmp_path) == ["1.png", "2.png"]
    _, bad = inspect_headers(queue_files(tmp_path, image_names(tmp_path)))
    assert [(one.name, one.reason[:13]) for one in bad] == [("2.png", "can't be read")]


def test_a_folder_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"an image")
    scan = os.scandir

    def refuse(path: Any) -> Any:  # root, who may run this, can read every folder
        if os.path.basename(path) == "b":  # noqa: PTH119 - os.walk gives texts
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InvalidRequestError, match=r"Can't read the folder .*b: Permission denied"):
        image_names(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    fill(tmp_path / "root", "a/1.png")
    fill(tmp_path / "elsewhere", "2.png")
    (tmp_path / "root/a/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/a/up").symlink_to(tmp_path / "root")
    assert image_names(tmp_path / "root") == ["a/1.png", "a/linked/2.png"]


def test_dataset_writes_a_line_per_row(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", "b.png", "é.png", "a.png")
    dataset = ImageDataset(
        root, tmp_path / "out/deep", "pt", file_names=["é.png", "a.png", "b.png"]
    )
    lines = (tmp_path / "out/deep/file_names.txt").read_bytes().decode().splitlines()
    assert lines == dataset.names == ["é.png", "a.png", "b.png"]


def test_loader_has_every_image_once(tmp_path: Path) -> None:
    dataset = ImageDataset(fill(tmp_path, *(f"{i}.png" for i in range(5))), tmp_path, "pt")
    loader = DataLoader(dataset, 2, "pt")
    assert [batch.names for batch in loader] == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png"]]
    assert len(loader) == 3


def test_what_the_server_cannot_do_is_refused(tmp_path: Path) -> None:
    root = fill(tmp_path, "a.png")
    with pytest.raises(InvalidRequestError, match="which is code of yours"):
        ImageDataset(root, tmp_path, "pt", transforms=lambda image: image)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="pt, tf"):
        ImageDataset(root, tmp_path, "jax")
    dataset = ImageDataset(root, tmp_path, "pt")
    with pytest.raises(InvalidRequestError, match="backend"):
        DataLoader(dataset, 1, "tf")
    with pytest.raises(InvalidRequestError, match="batch_size"):
        DataLoader(dataset, 0, "pt")
