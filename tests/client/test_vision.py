"""The paper's names: parameters, spellings, user-defined loops, scores and the prompt."""

from __future__ import annotations

import inspect
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.closeness import assert_close
from thingsvision_client import vision
from thingsvision_client.core import rsa
from thingsvision_client.errors import (
    InvalidRequestError,
    NotExtractableError,
    UnknownModuleError,
)
from thingsvision_client.model_class import Model
from thingsvision_client.paper.class_scores import class_scores
from thingsvision_client.paper.labelled import labelled_images
from thingsvision_client.paper.prompt import ask_module, completions
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
    "load_model": "model_name pretrained device model_path",
    "show_model": "model model_name",
    "extract_features": "model data_loader module_name batch_size flatten_acts device clip "
    "return_probabilities",
    "correlation_matrix": "F a_min a_max",
    "cosine_matrix": "F a_min a_max",
    "gaussian_kernel": "F",
    "squared_dists": "F",
}


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


def test_the_earliest_versions_arguments_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b.png", "a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    loader = vision.load_dl("./", batch_size=2, apply_transforms=True, clip=False)
    assert loader.dataset.names == ["a.png", "b.png"]
    assert not (tmp_path / "file_names.txt").exists()
    with pytest.raises(InvalidRequestError, match="`apply_transforms` must be True, got False"):
        vision.load_dl("./", batch_size=2, apply_transforms=False)


def test_a_user_defined_loop_gives_its_images_and_targets() -> None:
    batches = [(torch.ones(2, 3, 4, 4) * k, torch.tensor([k, k + 1])) for k in (0, 5)]
    found = labelled_images(iter(batches))
    assert [float(images.mean()) for images in found.batches] == [0.0, 5.0]
    np.testing.assert_array_equal(found.targets(), [[0], [1], [5], [6]])


@pytest.mark.parametrize(
    ("batch", "fault"),
    [
        (np.ones((2, 3)), r"pair \(images, targets\)"),
        ((np.ones((2, 3)), np.ones(3)), r"same length, got shapes \(2, 3\) and \(3,\)"),
        ((np.ones((2, 3)), 1), r"got shapes \(2, 3\) and \(\)"),
    ],
)
def test_batches_without_a_target_per_image_are_refused(batch: Any, fault: str) -> None:
    with pytest.raises(InvalidRequestError, match=fault):
        list(labelled_images([batch]).batches)


def test_values_that_are_not_data_loaders_are_refused() -> None:
    with pytest.raises(TypeError, match=r"vision\.load_dl"):
        labelled_images(17)


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
    assert_close(found, softmax, 1e-6)
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
