"""The command that prints a paragraph for a methods section, from the metadata of a file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from thingsvision_client import (
    Client,
    get_extractor,
    load_batches,
    load_features,
    plot_rdms,
    save_features,
)
from thingsvision_client.cli import app
from thingsvision_client.errors import InvalidRequestError

MODELS = ["torchvision/squeezenet1_0@random:0", "torchvision/alexnet@random:0"]


def printed(path: Path, *options: str) -> str:
    """Return what the command prints; raise its error."""
    done = CliRunner().invoke(app, ["methods-text", str(path), *options])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_features_and_figures_have_a_paragraph(
    client: Client, photos: list[Path], tmp_path: Path
) -> None:
    extractor = get_extractor(
        "squeezenet1_0", pretrained=False, device=None, source="torchvision", server=client.server
    )
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / photos[0].name).symlink_to(photos[0])
    batches = load_batches(str(tmp_path / "photos"), str(tmp_path), extractor.get_backend(), 2)
    save_features(extractor.extract_features(batches, "features.3"), tmp_path, "npy")
    whole = load_features(tmp_path).methods_text()
    assert printed(tmp_path / "features.npy") == f"{whole}\n"
    paragraph = whole.partition("\n\n")[0]
    assert (
        "Features of 1 image were extracted from the module features.3 of squeezenet" in paragraph
    )
    assert printed(tmp_path / "features.npy", "--no-bibtex") == f"{paragraph}\n"

    rdms = {name: client.rdm(name, photos[:2], "features.3") for name in MODELS}
    plot_rdms(tmp_path / "rdms.png", rdms)
    text = printed(tmp_path / "rdms.png")
    assert text.count("Features of 2 images were extracted from the module features.3 of ") == 2
    assert text.count("1 minus Pearson's correlation of their features.") == 2
    keys = re.findall(r"^@\w+\{([^,]+),", text, re.MULTILINE)
    assert len(keys) == len(set(keys)) >= 5, "a work has two entries"
    assert set(re.findall(r"@([\w.-]+)[;\]]", text)) == set(keys)


def test_files_that_do_not_say_what_computed_them(tmp_path: Path) -> None:
    path = tmp_path / "features.npy"
    with pytest.raises(InvalidRequestError, match=r"^There is no file '.*features\.npy'"):
        printed(path)
    with pytest.raises(InvalidRequestError, match="is a folder: pass the path of a file in it"):
        printed(tmp_path)
    (tmp_path / ".features.npy.parts").mkdir()
    with pytest.raises(InvalidRequestError, match="is not complete: its extraction has not ended"):
        printed(path)
    np.save(path, np.eye(3))
    with pytest.raises(InvalidRequestError, match=r"has no metadata: features\.npy\.json must lie"):
        printed(path)
    save_features(np.eye(3), tmp_path / "own", "npy")
    with pytest.raises(InvalidRequestError, match="don't say what computed it"):
        printed(tmp_path / "own/features.npy")
    np.save(tmp_path / "own/features.npy", np.ones(3))
    with pytest.raises(InvalidRequestError, match="was changed after its metadata were written"):
        printed(tmp_path / "own/features.npy")
