"""Networks of a user's process, as `get_extractor_from_model` sends them; exported in a child.

A server in this process has cuDNN's flags set in a way that `torch.export.export` can't read.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import get_extractor_from_model
from thingsvision_client.errors import InvalidRequestError

Outcome = dict[str, Any]


def run(
    script: str, server: TestServer, folder: Path, photos: list[Path]
) -> tuple[Outcome, dict[str, np.ndarray]]:
    """Run a user's script, and return what it says and the arrays that it saved."""
    path = Path(__file__).with_name(script)
    subprocess.run(
        [sys.executable, "-W", "error::UserWarning", path, server.address, folder, *photos],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=280,
    )
    said: Outcome = json.loads((folder / "said.json").read_text())
    with np.load(folder / "arrays.npz") as arrays:
        return said, dict(arrays)


@pytest.fixture(scope="module")
def torch_run(
    server: TestServer, tmp_path_factory: pytest.TempPathFactory, photos: list[Path]
) -> tuple[Outcome, dict[str, np.ndarray]]:
    return run("torch_script.py", server, tmp_path_factory.mktemp("torch"), photos)


@pytest.fixture
def said(torch_run: tuple[Outcome, dict[str, np.ndarray]]) -> Outcome:
    return torch_run[0]


@pytest.fixture
def same(
    torch_run: tuple[Outcome, dict[str, np.ndarray]],
) -> Callable[[str], dict[str, np.ndarray]]:
    """Check that a scenario's features equal PyTorch's own, and return them."""

    def check(scenario: str) -> dict[str, np.ndarray]:
        arrays = torch_run[1]
        found = {
            name.split("/")[2]: rows
            for name, rows in arrays.items()
            if name.startswith(f"{scenario}/found/")
        }
        assert found
        for module, rows in found.items():
            expected = arrays[f"{scenario}/expected/{module}"]
            assert_close(rows, expected)
        return found

    return check


def test_a_network_gives_the_same_on_the_server_as_in_the_script(said: Outcome, same: Any) -> None:
    found = same("plain")
    assert set(found) == {"stem.0", "act", "head"}
    assert said["plain"]["modules"] == ["stem", "stem.0", "stem.1", "act", "drop", "head"]
    assert said["plain"]["training"] == [True, True, False]
    assert said["plain"]["mean"] == [0.5, 0.4, 0.3]
    assert said["plain"]["backend"] == "pt"


def test_the_same_network_with_another_preprocessing(said: Outcome, same: Any) -> None:
    assert not np.allclose(same("declared anew")["head"], same("plain")["head"])
    assert said["declared anew"]["model"] == said["plain"]["model"]


def test_a_user_defined_forward_keeps_the_names(said: Outcome, same: Any) -> None:
    assert set(same("forward")) == {"body.0", "head", ""}
    assert said["forward"]["modules"] == ["body", "body.0", "body.1", "head"]
    assert said["forward"]["stays"] == "ValueError: y is missing"


@pytest.mark.parametrize("scenario", ["flatten", "flatten alone"])
def test_a_user_defined_flatten_function(scenario: str, said: Outcome, same: Any) -> None:
    assert same(scenario)["stem.0"].shape[1:] == (8,)
    assert "`flatten_fn` must return" in said["flatten"]["rows lost"]
    assert "leave out output_dir, or flatten_acts" in said["flatten"]["to disk"]


def test_without_preprocessing_arrays_of_any_size_are_taken(said: Outcome, same: Any) -> None:
    same("any size 64")
    same("any size 80")
    same("as for ImageNet")


def test_tensors_of_pixels_are_inputs_which_must_be_floats(said: Outcome, same: Any) -> None:
    assert all("inputs of floats: send batch.float()" in text for text in said["uint8"])
    same("uint8 as floats")


def test_networks_in_half_and_double_are_to_be_in_float(said: Outcome) -> None:
    for kind in ("torch.float16", "torch.float64"):
        assert f"float32, as its inputs are, got {kind}: call network.float() first" in said[kind]


def test_unsupported_input_sizes_fall_back_to_imagenets(same: Any) -> None:
    same("ImageNet's size")


def test_inputs_of_another_size_have_the_network_sent_again(same: Any) -> None:
    same("other size")
    same("ImageNet's size again")


def test_other_inputs_than_images_of_224_are_named(said: Outcome, same: Any) -> None:
    assert "input_shape=(channels, height, width)" in said["input shape"]
    assert re.search(r"RuntimeError: .*768.*", said["input shape"])
    same("input shape")


def test_the_first_inputs_show_the_shape_that_a_network_takes(said: Outcome, same: Any) -> None:
    same("waiting")
    told = said["waiting"]
    assert (told["is mine"], told["modules"], told["source"]) == (True, ["head"], "own")
    assert "for inputs of 3 x any x any" in told["images"]
    assert "arrays that are its inputs" in told["images"]


@pytest.mark.parametrize("scenario", ["toy", "toy with a forward", "toy in a model's place"])
def test_a_network_of_single_numbers(scenario: str, same: Any) -> None:
    same(scenario)
    same(f"{scenario}, by batch")


def test_what_takes_one_image_at_a_time_works_with_a_warning(said: Outcome, same: Any) -> None:
    ((warning, place),) = said["one"].items()
    assert warning.startswith("One runs one image at a time on the server")
    assert place.endswith("torch_script.py")
    same("one")


def test_a_network_that_is_assigned_takes_the_models_place(said: Outcome, same: Any) -> None:
    for scenario in ("assigned", "assigned to the paper's", "loaded by a subclass"):
        same(scenario)
    assert said["assigned"] == {
        "names": ["", "stem", "stem.0", "stem.1", "act", "drop", "head"],
        "convolutions": ["stem.0"],
        "named": "torchvision/alexnet@random:0",
        "training": True,
    }


def test_what_modules_return_is_recorded_whatever_uses_it(said: Outcome, same: Any) -> None:
    assert set(same("recorded")) >= {"attention", "module.blocks.2", "maps", ""}
    assert {"blocks.0", "blocks.1", "attention", "maps"} <= set(said["recorded"]["modules"])
    assert not any("module" in name for name in said["recorded"]["modules"])
    assert "never called itself; request a module inside it" in said["recorded"]["container"]


def test_a_network_that_cannot_be_exported_is_refused_with_the_reason_and_a_way_out(
    said: Outcome,
) -> None:
    refused = said["branching"]
    assert refused.startswith("InvalidRequestError: torch.export can't make a program of Branching")
    for part in ("data-dependent", "does not run its users' Python code", "ONNX", "model_path"):
        assert part in refused, part
    assert said["custom operator"].startswith("InvalidWeightsError")


def test_an_object_that_is_not_a_network_is_a_type_error(said: Outcome, server: TestServer) -> None:
    assert said["no network"] == [
        "TypeError: `model` must be a torch.nn.Module with backend='pt', got <class 'str'>",
        "TypeError: `model` must be a Keras model with backend='tf', got <class 'str'>",
    ]
    for arguments, sentence in [
        ({"backend": "jax"}, "`backend` must be one of pt, tf, got 'jax'"),
        ({"backend": "pt", "preprocess": {}, "transforms": {}}, "give one of them"),
    ]:
        with pytest.raises(InvalidRequestError, match=sentence):
            get_extractor_from_model(object(), None, server=server.address, **arguments)


def test_a_keras_network_takes_arrays(
    server: TestServer, tmp_path: Path, photos: list[Path]
) -> None:
    said, arrays = run("keras_script.py", server, tmp_path, photos)
    assert_close(arrays["found"], arrays["expected"])
    assert_close(arrays["images found"], arrays["images expected"])
    np.testing.assert_array_equal(arrays["toy"], [[2, 2], [0, 0]])
    np.testing.assert_array_equal(arrays["toy in a model's place"], [[4, 4], [0, 0]])
    assert (said["backend"], said["again"]) == ("tf", said["model"])
    assert said["modules"][-1] == "head"
    assert "`forward_fn` is for PyTorch" in said["forward"]
    assert "Lambda" in said["lambda"]
