"""The notebooks run from top to bottom, against a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
import pytest
from nbclient import NotebookClient

from support.checkout import CHECKOUT
from support.serving import TestServer

FOLDER = CHECKOUT / "docs" / "notebooks"
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
        return notebook

    return execute


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
    """Return what went to stderr: warnings, mostly."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.text for output in outputs if output.get("name") == "stderr"]


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
