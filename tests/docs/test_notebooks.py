"""The notebooks run from top to bottom, against a real server, and the site shows what they gave.

`THINGSVISION_WRITE_NOTEBOOKS=1 scripts/test tests/docs/test_notebooks.py` writes that anew.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from copy import deepcopy
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from support.checkout import CHECKOUT
from support.serving import TestServer

FOLDER = CHECKOUT / "docs" / "notebooks"
EXECUTED = FOLDER / "executed"
SECONDS = 60


@pytest.fixture
def run(pages_server: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a notebook in an empty folder, and return it with what it showed."""
    monkeypatch.setenv("THINGSVISION_SERVER", pages_server.address)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def execute(name: str) -> Any:
        notebook = jupytext.read(FOLDER / f"{name}.py")
        resources = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(
            notebook, timeout=SECONDS, kernel_name="python3", resources=resources
        ).execute()
        compare_outputs(notebook, EXECUTED / f"{name}.ipynb")
        return notebook

    return execute


def compare_outputs(notebook: Any, path: Path) -> None:
    """Fail if the stored notebook has other code or other kinds of outputs; or write it."""
    notebook = deepcopy(notebook)
    for cell in notebook.cells:
        cell.metadata.clear()  # times
        if "outputs" in cell:
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    if os.environ.get("THINGSVISION_WRITE_NOTEBOOKS"):
        path.parent.mkdir(exist_ok=True)
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                shrink(output.get("data", {}))
        nbformat.write(notebook, path)
    stored = nbformat.read(path, as_version=4)
    advice = f"{path.name} is out of date: {(__doc__ or '').splitlines()[2]}"
    assert [cell.source for cell in stored.cells] == [c.source for c in notebook.cells], advice
    assert list(map(output_kinds, stored.cells)) == list(map(output_kinds, notebook.cells)), advice


def shrink(data: Any) -> None:
    """Make a figure as small as the site shows it, on a screen of twice the pixels."""
    if "image/png" not in data:
        return
    figure = Image.open(BytesIO(b64decode(data["image/png"]))).convert("RGB")
    figure.thumbnail((1200, 1200))
    written = BytesIO()
    figure.quantize(256).save(written, "png", optimize=True)
    data["image/png"] = b64encode(written.getvalue()).decode()


def output_kinds(cell: Any) -> list[str]:
    """Return what a cell gave: names of streams and media types, pieces of a stream once."""
    kinds = []
    for output in cell.get("outputs", []):
        kinds += sorted(output.get("data", {})) or [output.get("name", output.output_type)]
    return [kind for kind, _ in groupby(kinds)]


def shown(notebook: Any) -> str:
    """Return all text that the cells gave."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [
        output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs
    ]
    return "\n".join(texts)


def picture_count(notebook: Any) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def faults(notebook: Any) -> list[str]:
    """Return what went to stderr besides bars of progress."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.text for output in outputs if output.get("name") == "stderr"]
    lines = [line for text in texts for line in text.replace("\r", "\n").splitlines()]
    return [line for line in lines if "Warning: " in line]


def test_all_notebooks_are_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {
        "features_of_photographs",
        "layers_and_the_brain",
        "steps_and_tokens",
    }


def test_features_of_photographs(run: Any, tmp_path: Path) -> None:
    notebook = run("features_of_photographs")
    text = shown(notebook)
    assert "features.3 (5, 128, 54, 54) float32" in text
    assert "features.12 (5, 512, 13, 13) float32" in text
    assert "torchvision/squeezenet1_0@IMAGENET1K_V1" in text
    assert picture_count(notebook) == 3
    assert faults(notebook) == []
    names = (tmp_path / "results" / "file_names.txt").read_text().splitlines()
    assert names == [
        "astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"
    ]  # fmt: skip


def test_steps_and_tokens(run: Any) -> None:
    notebook = run("steps_and_tokens")
    text = shown(notebook)
    for area in ("V1", "V2", "V4", "IT"):
        assert f"{area}.output" in text
    assert "runs 5 times" in text
    assert "(5, 5, 512, 7, 7)" in text
    assert "(5, 50, 768)" in text
    assert picture_count(notebook) == 2
    assert faults(notebook) == []


def test_layers_and_the_brain(
    run: Any, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSA92", str(shared_data / "rsa92"))
    notebook = run("layers_and_the_brain")
    text = shown(notebook)
    assert "features.12   trained 0.373" in text
    assert "classifier.3  trained 0.308" in text
    assert picture_count(notebook) == 2
    assert faults(notebook) == []
    header, *scores = (tmp_path / "rsa-results" / "rsa.csv").read_text().splitlines()
    assert header.startswith("reference,module,score")
    assert len(scores) == 12
