"""The paper's functions that need no server: image sets, classes, spellings, and the prompt."""

from __future__ import annotations

import inspect
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from thingsvision_client import vision
from thingsvision_client.core import rsa
from thingsvision_client.errors import (
    InvalidRequestError,
    NotExtractableError,
    UnknownModuleError,
)
from thingsvision_client.model_class import Model
from thingsvision_client.paper.class_scores import class_scores
from thingsvision_client.paper.labelled import labelled
from thingsvision_client.paper.prompt import ask_module, completions
from thingsvision_client.utils.data import DataLoader
from thingsvision_client.values.records import ModuleInfo

SIGNATURES = {
    "load_dl": "root out_path backend batch_size imagenet_train imagenet_val things "
    "things_behavior add_ref_imgs file_names transforms",
    "save_features": "features out_path file_format n_splits",
    "save_targets": "targets PATH file_format",
    "split_features": "PATH features file_format n_splits",
    "merge_features": "PATH file_format",
    "store_features": "PATH features file_format",
    "tensor2slices": "PATH file_name features",
    "slices2tensor": "PATH file",
    "compute_rdm": "F method",
    "correlate_rdms": "rdm_1 rdm_2 correlation",
    "plot_rdm": "out_path F method format colormap show_plot",
    "get_module_names": "model module",
    "center_features": "X",
    "normalize_features": "X",
    "compress_features": "X rnd_seed retained_var",
    "compare_models": "root out_path model_names module_names pretrained batch_size backend "
    "flatten_acts clip save_features dissimilarity correlation",
    "get_features": "root out_path model_names module_names clip pretrained batch_size backend "
    "flatten_acts",
    "extract_features_across_models_and_datasets": "out_path model_names img_paths module_names "
    "clip pretrained batch_size backend flatten_acts f_format",
    "extract_features_across_datasets_and_modules": "out_path model_names img_paths module_names "
    "clip pretrained batch_size backend flatten_acts f_format",
    "extract_features_across_models_datasets_and_modules": "out_path model_names img_paths "
    "module_names clip pretrained batch_size backend flatten_acts f_format",
    "get_class_probabilities": "probas out_path cls_file top_k save_as_json",
    "load_item_names": "folder",
    "get_cls_mapping_imagenet": "PATH save_as_json",
}

SYNSETS = ["n02510455", "n02123045", "n02124075", "n03792782"]


def positional(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]


def test_every_name_of_the_paper_has_the_papers_parameters_in_their_order() -> None:
    assert set(vision.__all__) == set(SIGNATURES)
    for name, parameters in SIGNATURES.items():
        assert positional(getattr(vision, name)) == parameters.split(), name
    assert positional(Model)[:5] == ["model_name", "pretrained", "device", "model_path", "backend"]
    assert positional(Model.extract_features)[1:] == [
        "data_loader",
        "module_name",
        "batch_size",
        "flatten_acts",
        "device",
        "clip",
        "return_probabilities",
    ]


# ---------------------------------------------------------------- image sets


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, as that of a script."""
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
    """Return names and targets of rows; the names are those written for the user."""
    written = Path("out/file_names.txt").read_text(encoding="utf-8").splitlines()
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
    with pytest.raises(InvalidRequestError, match=r"no class of 'v_3\.JPEG'"):
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
    with pytest.raises(InvalidRequestError, match="imagenet_val, things are True"):
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
    with pytest.raises(InvalidRequestError, match="one class for each number"):
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


# ---------------------------------------------------------------- spellings


def test_the_papers_spellings_do_what_todays_functions_do(tmp_path: Path) -> None:
    features = np.random.default_rng(1).normal(size=(7, 30)).astype(np.float32)
    vision.split_features(PATH=tmp_path, features=features, file_format="npy", n_splits=3)
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == [
        "features_01.npy",
        "features_02.npy",
        "features_03.npy",
    ]
    merged = vision.merge_features(PATH=tmp_path, file_format="npy")
    np.testing.assert_array_equal(merged, features)
    vision.store_features(PATH=tmp_path / "whole", features=features, file_format="npy")
    np.testing.assert_array_equal(np.load(tmp_path / "whole/features.npy"), features)
    rdm = vision.compute_rdm(F=features, method="cosine")
    np.testing.assert_array_equal(rdm, rsa.compute_rdm(features, "cosine"))
    vision.plot_rdm(out_path=tmp_path, F=features, method="cosine", format=".png")
    with Image.open(tmp_path / "rdm.png") as plot:
        assert plot.size == (2000, 800)


# ---------------------------------------------------------------- images with targets


def test_a_loop_of_ones_own_gives_its_images_and_targets() -> None:
    batches = [(torch.ones(2, 3, 4, 4) * k, torch.tensor([k, k + 1])) for k in (0, 5)]
    found = labelled(iter(batches))
    assert [float(images.mean()) for images in found.batches] == [0.0, 5.0]
    np.testing.assert_array_equal(found.targets(), [[0], [1], [5], [6]])


@pytest.mark.parametrize(
    ("batch", "fault"),
    [
        (np.ones((2, 3)), r"pair \(images, targets\)"),
        ((np.ones((2, 3)), np.ones(3)), r"\(2, 3\), but targets of shape \(3,\)"),
        ((np.ones((2, 3)), 1), r"targets of shape \(\)"),
    ],
)
def test_batches_without_a_target_per_image_are_refused(batch: Any, fault: str) -> None:
    with pytest.raises(InvalidRequestError, match=fault):
        list(labelled([batch]).batches)


def test_what_is_no_data_loader_is_refused() -> None:
    with pytest.raises(TypeError, match=r"vision\.load_dl"):
        labelled(17)


# ---------------------------------------------------------------- class scores


def module(name: str, *, kind: str = "Linear", attributes: str = "", shape: int = 1) -> ModuleInfo:
    return ModuleInfo(
        name, kind, attributes, 0, "", 1, (5,) * shape, "float32", 1, True, "", "image", None
    )


def test_scores_become_probabilities_once() -> None:
    scores = np.array([[1.0, 2.0, 800.0], [0.0, 0.0, 0.0]], np.float32)
    softmax = torch.softmax(torch.tensor(scores), 1).numpy()
    found = class_scores([module(""), module("fc")]).probabilities(scores)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, softmax, rtol=1e-6)
    for last in (
        module("predictions", attributes="units=5, activation=softmax"),
        module("a", kind="Softmax"),
    ):
        np.testing.assert_array_equal(
            class_scores([module(""), last]).probabilities(softmax), softmax
        )


@pytest.mark.parametrize("modules", [[module("visual")], [module("", shape=3)]])
def test_a_model_without_classes_has_no_probabilities(modules: list[ModuleInfo]) -> None:
    with pytest.raises(InvalidRequestError, match="CLIP"):
        class_scores(modules)


# ---------------------------------------------------------------- the prompt

MODULES = ["", "features", "features.0", "features.1", "features.1.squeeze", "fc", "top/in.a"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["features", "fc", "top"]),
        ("fe", ["features"]),
        ("features", ["features", "features.0", "features.1"]),
        ("features.", ["features.0", "features.1"]),
        ("features.1", ["features.1", "features.1.squeeze"]),
        ("top", ["top/in"]),
        ("top/in", ["top/in.a"]),
        ("x", []),
    ],
)
def test_names_are_completed_a_part_at_a_time(text: str, found: list[str]) -> None:
    assert completions(text, MODULES) == found


def test_a_line_that_is_piped_in_names_the_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    modules = [module(name) for name in MODULES]
    monkeypatch.setattr("sys.stdin", io.StringIO(" features.1 \nfc\nV2@t=1\n\nnothing\n"))
    assert ask_module(modules) == "features.1"
    assert capsys.readouterr().out == (
        "Enter module name for which you would like to extract features: "
    )
    assert ask_module(modules) == "fc"
    assert ask_module([*modules, module("V2")]) == "V2@t=1"
    with pytest.raises(UnknownModuleError, match="no module ''"):
        ask_module(modules)
    with pytest.raises(UnknownModuleError, match=r"no module 'nothing'\.$"):
        ask_module(modules)
    with pytest.raises(InvalidRequestError, match=r"pass module_name"):
        ask_module(modules)


def test_a_module_that_cannot_be_taken_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = ModuleInfo("aux", "X", "", 0, "", 0, (), "", 0, False, "it never runs", "image", None)
    monkeypatch.setattr("sys.stdin", io.StringIO("aux\nfeatures.11\n"))
    with pytest.raises(NotExtractableError, match="aux can't be extracted: it never runs"):
        ask_module([lost])
    with pytest.raises(UnknownModuleError, match=r"near: features\.1,"):
        ask_module([module(name) for name in MODULES])
