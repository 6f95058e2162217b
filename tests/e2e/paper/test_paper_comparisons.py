"""The paper's functions for several models: compared with each other and with brains."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.papers_features import SQUEEZENET, alone, assert_same, names_in
from support.serving import TestServer, serving
from thingsvision_client import connect, vision
from thingsvision_client.core.rsa import compute_rdm, correlate_rdms
from thingsvision_client.errors import (
    InvalidRequestError,
    MissingDependencyError,
    UnknownModuleError,
)
from thingsvision_client.model_class import Model


def test_module_names_are_found_by_a_pattern(squeezenet: Model) -> None:
    found = vision.get_module_names(squeezenet, "squeeze$")
    assert found[:2] == ["features.3.squeeze", "features.4.squeeze"]
    assert len(found) == 8
    assert "features.3.squeeze_activation" in vision.get_module_names(squeezenet, "squeeze")
    with pytest.raises(InvalidRequestError, match="not a regular expression"):
        vision.get_module_names(squeezenet, "features.[")


COMPARED = {"squeezenet1_0": "classifier.3", "squeezenet1_1": "features.6"}


def test_models_are_compared_as_by_hand(server: TestServer, connected: Path) -> None:
    noise = np.random.default_rng(0).random((5, 5))
    table = vision.compare_models(
        root="images",
        out_path="out",
        model_names=list(COMPARED),
        module_names=list(COMPARED.values()),
        pretrained=False,
        batch_size=32,
        backend="pt",
        flatten_acts=True,
        clip=[False, False],
        save_features=True,
        dissimilarity="cosine",
        correlation="spearman",
        reference_rdms={"noise": noise + noise.T},
    )
    labels = [*COMPARED, "noise"]
    assert list(table.index) == list(table.columns) == labels
    names = names_in(Path("out"))
    rdms = {"noise": noise + noise.T}
    for name, module in COMPARED.items():
        features = np.load(f"out/{name}/{module}/features.npy")
        model = f"torchvision/{name}@random:0"
        assert_same(features, alone(server, model, Path("images"), names, module))
        rdms[name] = compute_rdm(features, "cosine")
    for row in labels:
        for column in labels:
            expected = correlate_rdms(rdms[row], rdms[column], "spearman")
            assert table.loc[row, column] == pytest.approx(expected, abs=1e-12)


def test_features_by_model_and_module_are_returned(server: TestServer, connected: Path) -> None:
    found = vision.get_features(
        root="images",
        out_path="out",
        model_names=["squeezenet1_0", "squeezenet1_0"],
        module_names=["features.5", "classifier.3"],
        clip=[False, False],
        pretrained=False,
        batch_size=2,
        flatten_acts=True,
    )
    assert {model: list(one) for model, one in found.items()} == {
        "squeezenet1_0": ["features.5", "classifier.3"]
    }
    names = names_in(Path("out"))
    for module, features in found["squeezenet1_0"].items():
        assert_same(features, alone(server, SQUEEZENET, Path("images"), names, module))


FIGURE_2 = {
    "classifier.3": {"human IT": 0.3081, "monkey IT": 0.3858, "behaviour": 0.5385},
    "features.12": {"human IT": 0.3727, "monkey IT": 0.5903, "behaviour": 0.4809},
}


def test_one_call_compares_a_trained_model_with_brains_and_behaviour(
    shared_data: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights/torchvision/squeezenet1_0.IMAGENET1K_V1.pth"
    weights.parent.mkdir(parents=True)
    shutil.copy(shared_data / "squeezenet1_0-imagenet.pth", weights)
    data = shared_data / "rsa92"
    files = {"human IT": "human_it", "monkey IT": "monkey_it", "behaviour": "behaviour"}
    references = {name: np.load(data / f"{file}.npy") for name, file in files.items()}
    with serving(tmp_path / "weights", drain_seconds=1.0) as server:
        connect(server.address)
        table = vision.compare_models(
            root=data / "stimuli",
            out_path=tmp_path,
            model_names=["squeezenet1_0"] * 2,
            module_names=list(FIGURE_2),
            pretrained=True,
            batch_size=16,
            backend="pt",
            flatten_acts=True,
            clip=False,
            save_features=False,
            reference_rdms=references,
        )
    assert table.shape == (5, 5)
    np.testing.assert_array_equal(table, table.T)
    np.testing.assert_array_equal(np.diag(table), 1)
    for module, row in FIGURE_2.items():
        for reference, value in row.items():
            found = table.loc[f"squeezenet1_0 ({module})", reference]
            assert found == pytest.approx(value, abs=1e-4)
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"flatten_acts": None}, "`flatten_acts` must be True or False"),
        ({"module_names": ["features.3"]}, "one module"),
        ({"module_names": "features.3"}, "`module_names` must be a list"),
        ({"clip": [True]}, "one module"),
        ({"dissimilarity": "cosinus"}, "`dissimilarity` must be one of correlation, cosine"),
        (
            {"correlation": "kendall"},
            "`correlation` must be one of pearson, spearman, got 'kendall'",
        ),
        ({"reference_rdms": {"it": np.eye(4)}}, "`reference_rdms` must be 5 x 5"),
        ({"reference_rdms": {"squeezenet1_0": np.eye(5)}}, "must be unique, got .*squeezenet1_0"),
        (
            {"module_names": ["features.3"] * 2, "model_names": ["squeezenet1_0"] * 2},
            "must be unique",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_sent(
    here: Path, monkeypatch: pytest.MonkeyPatch, choices: dict[str, Any], said: str
) -> None:
    connect("127.0.0.1:1")  # no server listens there
    given = {
        "root": "images",
        "out_path": "out",
        "model_names": list(COMPARED),
        "module_names": list(COMPARED.values()),
        "pretrained": False,
        "batch_size": 2,
        "flatten_acts": True,
    }
    with pytest.raises(InvalidRequestError, match=said):
        vision.compare_models(**given | choices)


def test_a_comparison_without_pandas_says_what_to_install(
    connected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match=r"thingsvision-service\[pandas\]"):
        vision.compare_models("images", "out", ["a"], ["b"], False, 2, "pt", True, False)


def test_features_across_models_and_datasets_are_saved_where_the_original_saved_them(
    server: TestServer, connected: Path
) -> None:
    shutil.copytree("images/ape", "more images")
    vision.extract_features_across_models_and_datasets(
        out_path="out",
        model_names=list(COMPARED),
        img_paths=["./images", connected / "more images"],
        module_names=list(COMPARED.values()),
        clip=[False, False],
        pretrained=False,
        batch_size=2,
        flatten_acts=True,
    )
    second = Path("out", *(connected / "more images").parts[1:])
    for folder, root in [(Path("out/images"), Path("images")), (second, Path("more images"))]:
        for name, module in COMPARED.items():
            place = folder / name / module / "features"
            found = np.loadtxt(place / "features.txt").astype(np.float32)
            model = f"torchvision/{name}@random:0"
            assert_same(found, alone(server, model, root, names_in(place), module))
    assert not (connected / "more images/squeezenet1_0").exists()


def test_features_across_datasets_and_modules_are_of_every_module_that_matches(
    server: TestServer, connected: Path
) -> None:
    vision.extract_features_across_datasets_and_modules(
        "out", ["squeezenet1_0"], ["images"], ["classifier"], [False], False, 32, "pt", False, "npy"
    )
    folder = Path("out/images/squeezenet1_0")
    modules = ["classifier", "classifier.0", "classifier.1", "classifier.2", "classifier.3"]
    assert sorted(path.name for path in folder.iterdir()) == modules
    found = {module: np.load(folder / module / "features/features.npy") for module in modules}
    assert found["classifier.1"].shape == (5, 1000, 13, 13)
    assert (found["classifier.1"] < 0).any(), "the ReLU after it overwrote its output"
    for module, features in found.items():
        names = names_in(folder / module / "features")
        expected = alone(server, SQUEEZENET, Path("images"), names, module)
        assert_same(features.reshape(5, -1), expected)


@pytest.mark.parametrize(
    ("modules", "flatten", "kind", "error", "said"),
    [
        (["classifier.3", "features.6"], False, "txt", InvalidRequestError, "2 dimensions"),
        (["classifier.3", "features.99"], True, "txt", UnknownModuleError, "features.9"),
        (["classifier.3", "features.6"], True, "tsv", InvalidRequestError, "file_format. .*'tsv'"),
    ],
)
def test_a_study_that_cannot_finish_is_refused_before_it_starts(
    connected: Path, modules: list[str], flatten: bool, kind: str, error: Any, said: str
) -> None:
    with pytest.raises(error, match=said):
        vision.extract_features_across_models_and_datasets(
            "out", list(COMPARED), ["images"], modules, False, False, 2, "pt", flatten, kind
        )
    assert not Path("out").exists()
