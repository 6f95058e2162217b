"""A user's network is left as it was: tracing stores no tensors without values in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.closeness import assert_close
from support.serving import TestServer


@pytest.fixture(scope="module")
def outcome(
    server: TestServer, tmp_path_factory: pytest.TempPathFactory, photos: list[Path]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("storing")
    script = Path(__file__).with_name("storing_script.py")
    subprocess.run(
        [sys.executable, script, server.address, folder, *photos],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=280,
    )
    said = json.loads((folder / "said.json").read_text())
    with np.load(folder / "arrays.npz") as arrays:
        return said, dict(arrays)


def test_no_attribute_of_any_module_changes(outcome: Any) -> None:
    said, _ = outcome
    assert said["changed"] == []
    assert said["values"]


def test_what_hooks_and_the_script_hold_does_not_change(outcome: Any) -> None:
    said, _ = outcome
    assert said["outside"] == [0, 0, 0, True, True]


def test_the_network_still_computes_and_stores(outcome: Any) -> None:
    said, arrays = outcome
    assert said["used"] == ["Tensor", 1, 1, ["inner"]]
    assert_close(arrays["found"], arrays["expected"])


@pytest.mark.parametrize("name", ["random", "numpy.random", "normal"])
def test_draws_of_python_are_refused_by_module(outcome: Any, name: str) -> None:
    said, _ = outcome
    source = "numpy.random" if name == "normal" else name
    assert f"module 'noise' (Drawing) draws from {source}" in said[f"draws {name}"]
    assert said["random as before"]


def test_a_refused_network_is_left_as_it_was_too(outcome: Any) -> None:
    said, _ = outcome
    assert said["refused"] == "InvalidRequestError"
    assert said["changed by a refusal"] is False
