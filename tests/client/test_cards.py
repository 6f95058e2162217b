"""What objects look like in a console and in a notebook: short, with shapes, escaped."""

from __future__ import annotations

import copy
import pickle
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.serving import TestServer
from thingsvision_client import (
    Client,
    DataLoader,
    HDF5Dataset,
    ImageDataset,
    compare_rdms,
    get_extractor,
    load_features,
    save_features,
)
from thingsvision_client.display.cards import Table
from thingsvision_client.model_class import Model as PaperModel

MODEL = "torchvision/squeezenet1_0@random:0"


class Cells(HTMLParser):
    """Collects the texts of a table's cells."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self._is_cell = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        del attrs
        self._is_cell = tag in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._is_cell:
            self.cells.append(data)


def cells_of(html: str) -> list[str]:
    parser = Cells()
    parser.feed(html)
    return parser.cells


@pytest.fixture(scope="module")
def shown(
    server: TestServer, photos: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """An object of each kind, by its name."""
    folder = tmp_path_factory.mktemp("shown")
    with h5py.File(folder / "stimuli.h5", "w") as file:
        file["images"] = np.zeros((2, 8, 8, 3), np.uint8)
    names = sorted(photo.name for photo in photos[:3])
    dataset = ImageDataset(photos[0].parent, folder, "pt", file_names=names)
    client = Client(server.address)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THINGSVISION_SERVER", server.address)
        extractor = get_extractor("squeezenet1_0", False, None, "torchvision")
        paper = PaperModel("squeezenet1_0", pretrained=False, device=None)
    extraction = client.extract(MODEL, photos[:3], "features.3")
    save_features(extraction.features, folder / "saved", "npz")
    rdms = client.rdm(MODEL, photos[:4], "features.3")
    return {
        "Client": client,
        "Extractor": extractor,
        "Model": paper,
        "ImageDataset": dataset,
        "HDF5Dataset": HDF5Dataset(folder / "stimuli.h5", "images", "pt"),
        "DataLoader": DataLoader(dataset, 2, "pt"),
        "Extraction": extraction,
        "LoadedFeatures": load_features(folder / "saved"),
        "FeatureStream": client.stream(MODEL, photos[:1], "features.3"),
        "Inputs": client.preprocess("torchvision/squeezenet1_0", photos[:1]),
        "Provenance": extraction.provenance,
        "RDMs": rdms,
        "RSAResult": compare_rdms(rdms, rdms.rdms["features.3"], bootstrap=0),
        "PCA": client.fit_pca(MODEL, photos[:4], "features.3", components=2),
        "Residency": client.residency(),
        "ResidentModel": client.residency().models[0],
        "ModelInfo": client.models("torchvision", "squeezenet1_0")[0],
        "PretrainedWeights": client.models("torchvision", "squeezenet1_0")[0].pretrained[0],
        "ModuleInfo": client.modules(MODEL)[2],
    }


EXPECTED = {
    "Client": ["server: 127.0.0.1:"],
    "Extractor": [f"model: {MODEL}", "backend: pt"],
    "Model": [f"model: {MODEL}"],
    "ImageDataset": ["images: 3", "first: astronaut.png"],
    "HDF5Dataset": ["images: 2"],
    "DataLoader": ["batches: 2", "batch size: 2", "images: 3"],
    "Extraction": ["images: 3", "features.3: 3 x 128 x 54 x 54 float32", f"model: {MODEL}"],
    "LoadedFeatures": ["rows: 3", "features.3: 3 x 128 x 54 x 54 float32"],
    "FeatureStream": [f"model: {MODEL}", "modules: features.3"],
    "Inputs": ["inputs: 1 x 3 x 224 x 224 float32"],
    "Provenance": [f"model: {MODEL}", "precision: float32", "framework: torch"],
    "RDMs": ["images: 4", "metric: correlation", "features.3: 4 x 4 float32"],
    "RSAResult": ["correlation: spearman", "images: 4", "1.000"],
    "PCA": ["components: 2", "images: 4", "modules: features.3 128 x 54 x 54"],
    "Residency": ["models: torchvision/", "devices: cpu"],
    "ResidentModel": ["device: cpu", "bytes: "],
    "ModelInfo": ["name: torchvision/squeezenet1_0", "weights: IMAGENET1K_V1"],
    "PretrainedWeights": ["tag: IMAGENET1K_V1", "state: "],
    "ModuleInfo": ["name: features.0", "type: Conv2d", "output: 96 x 109 x 109 float32"],
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_line_says_what_matters(kind: str, shown: dict[str, Any]) -> None:
    line = repr(shown[kind])
    assert line.startswith(f"<{kind} ")
    assert "\n" not in line
    assert len(line) < 900
    for fact in EXPECTED[kind]:
        assert fact in line, line


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_notebook_shows_the_same_facts(kind: str, shown: dict[str, Any]) -> None:
    html = shown[kind]._repr_html_()
    cells = cells_of(html)
    for fact in EXPECTED[kind]:
        name, colon, value = fact.partition(": ")
        assert not colon or name in cells or name in " ".join(cells), html
        assert value in " ".join(cells), html


def test_showing_an_object_asks_no_server(shown: dict[str, Any]) -> None:
    nowhere = Client("127.0.0.1:9")
    assert repr(nowhere) == "<Client server: 127.0.0.1:9>"
    assert "127.0.0.1:9" in nowhere._repr_html_()
    assert repr(pickle.loads(pickle.dumps(shown["Extraction"]))) == repr(shown["Extraction"])


def test_what_users_named_is_escaped(tmp_path: Path, photos: list[Path]) -> None:
    folder = tmp_path / "<script>"
    folder.mkdir()
    (folder / "a.png").write_bytes(photos[0].read_bytes())
    html = ImageDataset(folder, tmp_path, "pt")._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_listings_are_tables(client: Client) -> None:
    models = client.models("torchvision", "squeezenet*")
    assert isinstance(models, list)
    table = models.to_dataframe()
    assert list(table["name"]) == [one.name for one in models] == ["squeezenet1_0", "squeezenet1_1"]
    assert table["parameter_count"].tolist() == [one.parameter_count for one in models]
    modules = client.modules(MODEL)
    table = modules.to_dataframe().set_index("name")
    assert table.loc["features.3", "output_shape"] == (128, 54, 54)
    assert bool(table.loc["features.3", "extractable"])
    assert len(table) == len(modules)
    assert "features.3" in cells_of(modules._repr_html_())
    assert f"and {len(modules) - 30} more" in repr(modules)
    again = copy.copy(modules)
    assert isinstance(again, Table)
    assert again == modules
    assert again.to_dataframe().equals(modules.to_dataframe())
