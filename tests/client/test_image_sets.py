"""The paper's image sets with their targets, and its lists of classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thingsvision_client import vision
from thingsvision_client.errors import (
    InvalidRequestError,
    ReplacedFileWarning,
)
from thingsvision_client.utils.data import DataLoader

SYNSETS = ["n02510455", "n02123045", "n02124075", "n03792782"]


# ---------------------------------------------------------------- image sets


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, as a script has one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def put(photos: list[Path], *places: Path) -> None:
    for number, place in enumerate(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos[number % len(photos)], place)


def loader(**choices: Any) -> DataLoader:
    return vision.load_dl("images", "out", "pt", 2, **choices)


def rows(found: DataLoader) -> dict[str, int]:
    """Return names and targets of rows; the names are read from the file written for the user."""
    lines = Path("out/file_names.txt").read_text(encoding="utf-8").splitlines()
    written = [line.removeprefix("images/") for line in lines]
    assert written == found.dataset.names
    assert found.dataset.targets.shape == (len(written), 1)
    assert found.dataset.targets.dtype == np.int64
    return dict(zip(written, found.dataset.targets[:, 0].tolist(), strict=True))


def test_targets_are_places_of_sorted_classes_whatever_the_order_of_rows(
    here: Path, photos: list[Path]
) -> None:
    places = ["zebra/1.png", "ape/2.png", "zebra/0.png", "lion/new/3.png"]
    put(photos, *(here / "images" / place for place in places))
    assert list(rows(loader()).items()) == [
        ("ape/2.png", 0),
        ("lion/new/3.png", 1),
        ("zebra/0.png", 2),
        ("zebra/1.png", 2),
    ]
    mixed = ["zebra/1.png", "ape/2.png", "zebra/0.png"]
    assert list(rows(loader(file_names=mixed)).items()) == list(zip(mixed, [2, 0, 2], strict=True))


def test_without_folders_every_image_is_its_own_class(here: Path, photos: list[Path]) -> None:
    put(photos, here / "images/b.png", here / "images/a.png", here / "images/c.png")
    assert rows(loader()) == {"a.png": 0, "b.png": 1, "c.png": 2}


def test_training_images_of_imagenet_are_numbered_as_its_list_does(
    here: Path, photos: list[Path]
) -> None:
    lines = "".join(f"{synset} some name, another\n" for synset in SYNSETS)
    write(here / "images/LOC_synset_mapping.txt", lines)
    put(photos, *(here / "images" / synset / "a.JPEG" for synset in (SYNSETS[3], SYNSETS[1])))
    found = loader(imagenet_train=True)
    assert list(rows(found).items()) == [(f"{SYNSETS[1]}/a.JPEG", 1), (f"{SYNSETS[3]}/a.JPEG", 3)]
    assert found.dataset.classes == SYNSETS
    one = [f"{SYNSETS[3]}/a.JPEG"]
    assert rows(loader(imagenet_train=True, file_names=one)) == {one[0]: 3}
    put(photos, here / "images/n00000000/a.JPEG")
    with pytest.raises(InvalidRequestError, match="n00000000"):
        loader(imagenet_train=True)


def test_validation_images_of_imagenet_are_numbered_by_their_table(
    here: Path, photos: list[Path]
) -> None:
    write(here / "images/LOC_synset_mapping.txt", "".join(f"{one} a\n" for one in SYNSETS))
    table = "ImageId,PredictionString\nv_2,n02124075 85 1 499 272\nv_1,n03792782 0 0 9 9 \n"
    put(photos, here / "images/v_1.JPEG", here / "images/v_2.JPEG")
    with pytest.raises(InvalidRequestError, match=r"LOC_images_solution\.csv"):
        loader(imagenet_val=True)
    write(here / "images/LOC_images_solution.csv", table)
    assert list(rows(loader(imagenet_val=True)).items()) == [("v_1.JPEG", 3), ("v_2.JPEG", 2)]
    turned = ["v_2.JPEG", "v_1.JPEG"]
    assert list(rows(loader(imagenet_val=True, file_names=turned))) == turned
    put(photos, here / "images/v_3.JPEG")
    with pytest.raises(InvalidRequestError, match=r"no class for 'v_3\.JPEG'"):
        loader(imagenet_val=True)


def test_concepts_of_things_are_in_the_order_of_their_list(here: Path, photos: list[Path]) -> None:
    put(photos, here / "images/aardvark/1.jpg", here / "images/abacus/1.jpg")
    with pytest.raises(InvalidRequestError, match=r"things_concepts\.tsv"):
        loader(things=True)
    lines = 'Word\tuniqueID\tDefinition\nx\tabacus\ta "tool"\ny\taardvark\tan\u2028animal\n'
    write(here / "data/things_concepts.tsv", lines)
    found = loader(things=True)
    assert list(rows(found).items()) == [("abacus/1.jpg", 0), ("aardvark/1.jpg", 1)]
    own = ["aardvark/1.jpg", "abacus/1.jpg"]
    assert list(rows(loader(things=True, file_names=own)).items()) == list(
        zip(own, [1, 0], strict=True)
    )
    put(photos, here / "images/zebra/1.jpg")
    with pytest.raises(InvalidRequestError, match="'zebra'"):
        loader(things=True)


def test_items_of_the_behaviour_study_are_in_the_order_of_their_list(
    here: Path, photos: list[Path]
) -> None:
    put(photos, *(here / f"images/{name}.jpg" for name in ("aardvark", "abacus", "zebra")))
    write(here / "data/item_names.tsv", "n\tuniqueID\n1\tzebra\n2\taardvark\n")
    assert vision.load_item_names().tolist() == ["zebra", "aardvark"]
    assert vision.load_item_names(folder="data").tolist() == ["zebra", "aardvark"]
    assert rows(loader(things_behavior=True)) == {"zebra.jpg": 0, "aardvark.jpg": 1}
    with pytest.raises(InvalidRequestError, match="leave out file_names"):
        loader(things_behavior=True, file_names=["zebra.jpg"])


def test_what_flags_cannot_mean_is_refused_with_the_way_that_works(
    here: Path, photos: list[Path]
) -> None:
    put(photos, here / "images/a.png")
    with pytest.raises(InvalidRequestError, match="into the folder of its concept"):
        loader(things=True, add_ref_imgs=True)
    with pytest.raises(InvalidRequestError, match="one flag may be True, got imagenet_val, things"):
        loader(things=True, imagenet_val=True)
    with pytest.raises(InvalidRequestError, match="no folder 'nowhere'"):
        vision.load_dl("nowhere", "out", "pt", 2, things=True)
    write(here / "data/item_names.tsv", "name\tid\n1\t2\n")
    with pytest.raises(InvalidRequestError, match="uniqueID"):
        vision.load_item_names()


# ---------------------------------------------------------------- classes

NAMES = {0: "tench", 1: "great_white_shark", 2: "jack-o'-lantern"}


@pytest.mark.parametrize(
    "lines",
    [
        "{0: 'tench, Tinca tinca',\n 1: 'great white shark, man',\n 2: \"jack-o'-lantern\"}\n",
        "tench.n.01\ngreat_white_shark.n.01\njack-o'-lantern.n.02\n",
        "n01440764 tench, Tinca\nn01484850 great white shark\nn03590841 jack-o'-lantern\n",
        "2 jack-o'-lantern\n0 tench\n1 Great white shark, white shark\n",
        "tench\nGreat white shark\njack-o'-lantern\n\n",
    ],
)
def test_classes_are_read_from_files_of_classes_and_of_synsets(tmp_path: Path, lines: str) -> None:
    write(tmp_path / "imagenet1000_synset.txt", lines)
    assert vision.get_cls_mapping_imagenet(tmp_path / "imagenet1000_synset.txt") == NAMES
    assert not (tmp_path / "imagenet_idx2class.json").exists()


def test_classes_go_to_a_json_file_beside_their_list(here: Path) -> None:
    write(here / "classes.txt", "hen.n.02\nlion.n.01\nkite.n.04\n")
    found = vision.get_cls_mapping_imagenet("classes.txt", save_as_json=True)
    assert found == {0: "hen", 1: "lion", 2: "kite"}
    saved = json.loads((here / "imagenet_idx2class.json").read_text())
    assert saved == {"0": "hen", "1": "lion", "2": "kite"}
    write(here / "classes.txt", "0 hen\n2 lion\n")
    with pytest.raises(InvalidRequestError, match="a class for each number"):
        vision.get_cls_mapping_imagenet("classes.txt")
    with pytest.raises(InvalidRequestError, match="nowhere"):
        vision.get_cls_mapping_imagenet("nowhere.txt")


def test_the_most_probable_classes_of_each_image_come_first(tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "hen\ncrane\nlion\ncrane\n")
    write(tmp_path / "out/file_names.txt", "b/ü.png\na.png\n")
    probabilities = np.array([[0.1, 0.3, 0.2, 0.4], [0.7, 0.05, 0.2, 0.05]])
    found = vision.get_class_probabilities(
        probas=probabilities,
        out_path=tmp_path / "out",
        cls_file=tmp_path / "classes.txt",
        top_k=2,
        save_as_json=True,
    )
    expected = {"b/ü.png": {"crane_3": 0.4, "crane_1": 0.3}, "a.png": {"hen": 0.7, "lion": 0.2}}
    assert found == expected
    assert [list(one) for one in found.values()] == [list(one) for one in expected.values()]
    assert json.loads((tmp_path / "out/class_probabilities.json").read_text()) == expected
    with pytest.warns(ReplacedFileWarning, match=r"class_probabilities\.json was replaced"):
        vision.get_class_probabilities(
            probabilities[::-1], tmp_path / "out", tmp_path / "classes.txt", 1, save_as_json=True
        )


@pytest.mark.parametrize("shape", [(3, 4), (2, 3)])
def test_probabilities_of_other_images_or_classes_are_refused(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    write(tmp_path / "classes.txt", "hen\ncrane\nlion\nkite\n")
    write(tmp_path / "file_names.txt", "a.png\nb.png\n")
    with pytest.raises(InvalidRequestError, match=r"names 2 images.* 4 classes"):
        vision.get_class_probabilities(
            np.full(shape, 0.1), tmp_path, tmp_path / "classes.txt", 1, save_as_json=False
        )
