"""Every block of the MATLAB page runs, in order, as a reader would run it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import h5py
import torch
from safetensors.torch import save_file

from support.checkout import CHECKOUT
from support.octave import run_octave
from support.serving import serving

sys.path.insert(0, str(CHECKOUT / "tests" / "docs"))
from markdown_blocks import blocks

PAGE = CHECKOUT / "docs" / "matlab.md"
WEIGHTS = Path("torchvision") / "squeezenet1_0.IMAGENET1K_V1.safetensors"


def folder_of(photos: Path) -> str:
    """Return code that prints how many activations and names a folder gives."""
    return (
        f"[A, info] = c.activations(model, '{photos}', 'classifier.3', 'OutputAs', 'rows'); "
        "printf('%d rows, %d names, last %s\\n', size(A, 1), numel(info.images), info.images{end});"
    )


def test_the_page_runs(shared_data: Path, photos: list[Path], tmp_path: Path) -> None:
    weights = tmp_path / "weights" / WEIGHTS
    weights.parent.mkdir(parents=True)
    trained = shared_data / "squeezenet1_0-imagenet.pth"
    save_file(torch.load(trained, map_location="cpu", weights_only=True), weights)
    reader = tmp_path / "reader"
    (reader / "photos").mkdir(parents=True)
    for photo in photos:
        shutil.copy(photo, reader / "photos")
    (reader / "rsa92").symlink_to(shared_data / "rsa92")
    code = "\n".join(block.code for block in blocks(PAGE) if block.language == "matlab")
    of_a_folder = folder_of(shared_data / "photos78")
    (reader / "page.m").write_text(f"1;\n{code}\n{of_a_folder}\n")
    with serving(tmp_path / "weights", drain_seconds=1.0) as server:
        done = run_octave("page", reader, THINGSVISION_SERVER=server.address)
    printed = done["printed"]
    assert "13    13   512     5" in printed
    assert "features.12    0.3727" in printed
    assert "classifier.3   0.3081" in printed
    assert "1     1   512     5" in printed
    last = max(path.name for path in (shared_data / "photos78").iterdir())
    assert f"78 rows, 78 names, last {last}" in printed, printed[-600:]
    with h5py.File(reader / "results" / "squeezenet.mat") as file:
        assert file["features"].shape == (5, 512, 13, 13)
