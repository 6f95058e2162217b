"""Paths, names and spellings of earlier versions of the original library: here, or with advice."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import thingsvision_client
from support.serving import TestServer
from thingsvision_client import Extractor, connect, get_extractor, vision
from thingsvision_client.core.cka import CKA
from thingsvision_client.library.spellings import current_parameters
from thingsvision_client.model_class import Model
from thingsvision_client.old_paths import ADVICE, HOMES
from thingsvision_client.utils import data

ROWS = np.random.default_rng(0).normal(size=(6, 9))


@pytest.mark.parametrize("path", HOMES)
def test_old_names_are_found_in_each_way(path: str) -> None:
    module, _, name = path.rpartition(".")
    found = getattr(import_module(f"thingsvision_client.{module}"), name)
    names: dict[str, object] = {}
    exec(f"from thingsvision_client.{module} import {name} as it", names)
    exec(f"import thingsvision_client.{module} as module", names)
    assert callable(found)
    assert names["it"] is found is getattr(names["module"], name)


@pytest.mark.parametrize("path", ADVICE)
def test_names_that_are_gone_say_what_to_use(path: str) -> None:
    module, _, name = path.rpartition(".")
    name = "Anything" if name == "*" else name
    with pytest.raises(ImportError) as raised:
        exec(f"from thingsvision_client.{module} import {name}")
    assert str(raised.value).endswith(f"has no {name!r} here: {ADVICE[path]}.")


def test_old_paths_are_found_in_a_new_process() -> None:
    code = (
        "import thingsvision_client.core.extraction.torch as first\n"
        "from thingsvision_client.core.cka.cka_numpy import CKANumPy\n"
        "from thingsvision_client.utils.data.dataset import ImageDataset\n"
        "import thingsvision_client.dataset, thingsvision_client.dataloader\n"
        "assert first.PyTorchExtractor and CKANumPy and ImageDataset\n"
        "assert thingsvision_client.dataset.ImageDataset\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_modules_of_networks_are_found_below_each_other() -> None:
    for path in ("custom_models.vgg16bn_ecoset", "utils.models.dino", "cornet.cornet_s"):
        with pytest.raises(ImportError, match="networks run on the server: use get_extractor"):
            exec(f"from thingsvision_client.{path} import Anything")


def test_the_package_has_a_version() -> None:
    assert thingsvision_client.__version__ == version("thingsvision-service")


def test_other_names_are_missing_as_ever() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = vision.nonsense
    with pytest.raises(ModuleNotFoundError):
        import_module("thingsvision_client.core.cka.nonsense")
    assert not hasattr(import_module("thingsvision_client.clip"), "__wrapped__")


def test_extractors_have_the_librarys_classes() -> None:
    torch_path = import_module("thingsvision_client.core.extraction.torch")
    base_path = import_module("thingsvision_client.core.extraction.base")
    assert torch_path.PyTorchExtractor is base_path.BaseExtractor is Extractor
    assert import_module("thingsvision_client.utils.data.dataset").ImageDataset is data.ImageDataset


def test_similarities_are_those_of_numpy() -> None:
    helpers = import_module("thingsvision_client.core.rsa.helpers")
    lengths, distances = np.linalg.norm(ROWS, axis=1), cdist(ROWS, ROWS, "sqeuclidean")
    expected = {
        "correlation_matrix": np.corrcoef(ROWS),
        "cosine_matrix": ROWS @ ROWS.T / np.outer(lengths, lengths),
        "squared_dists": distances,
        "gaussian_kernel": np.exp(-distances / distances.mean()),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(helpers, name)(ROWS), values, atol=1e-12)
        assert getattr(vision, name) is getattr(helpers, name)
    assert helpers.correlation_matrix(ROWS, a_min=0.0, a_max=0.5).max() == 0.5


def test_classes_of_cka_compare_as_get_cka() -> None:
    numpys = import_module("thingsvision_client.core.cka.cka_numpy").CKANumPy
    torchs = import_module("thingsvision_client.core.cka.cka_torch").CKATorch
    expected = CKA(6, "rbf", unbiased=True).compare(ROWS, ROWS[:, :4])
    assert numpys(6, "rbf", True, 1.0).compare(ROWS, ROWS[:, :4]) == expected
    assert torchs(6, "rbf", True, "cpu", False, 1.0).compare(ROWS, ROWS[:, :4]) == expected


def test_a_script_of_before_1_0_runs(
    server: TestServer, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(server.address)
    (tmp_path / "images").mkdir()
    for photo in photos[:2]:
        (tmp_path / "images" / photo.name).symlink_to(photo)
    model, transforms = vision.load_model("squeezenet1_0", pretrained=False, device="cpu")
    monkeypatch.setattr(sys, "stdin", StringIO("features.12\n"))
    module = vision.show_model(model, "squeezenet1_0")
    batches = vision.load_dl(
        root=tmp_path / "images", out_path=tmp_path, batch_size=2, transforms=transforms
    )
    features, targets = vision.extract_features(
        model, batches, module, batch_size=2, flatten_acts=True, device="cpu", clip=False
    )
    expected, _ = model.extract_features(batches, module, flatten_acts=True)
    np.testing.assert_array_equal(features, expected)
    assert targets.ravel().tolist() == [0, 1]
    with pytest.raises(ValueError, match="`batch_size` must be"):
        vision.load_dl(tmp_path / "images", tmp_path)


def test_datasets_of_1_0_are_those_of_load_dl(photos: list[Path], tmp_path: Path) -> None:
    dataset_class = import_module("thingsvision_client.dataset").ImageDataset
    loader_class = import_module("thingsvision_client.dataloader").DataLoader
    for number, photo in enumerate(photos[:3]):
        place = tmp_path / "images" / f"class {number % 2}" / photo.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(photo)
    dataset = dataset_class(
        root=tmp_path / "images", out_path=tmp_path, backend="pt", imagenet_train=None,
        imagenet_val=None, things=None, things_behavior=None, add_ref_imgs=None, transforms=None,
    )  # fmt: skip
    assert dataset.targets.ravel().tolist() == [0, 0, 1]
    assert len(loader_class(dataset, batch_size=2, backend="pt")) == 2


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("cornet_rt", "custom", "custom/cornet-rt@random:0"),
        ("cornet-s", "custom", "custom/cornet-s@random:0"),
        ("clip-ViT", "custom", "custom/clip/ViT-B-32@random:0"),
    ],
)
def test_names_as_the_library_spells_them(
    server: TestServer, name: str, source: str, found: str
) -> None:
    extractor = get_extractor(name, False, None, source, server=server.address)
    assert (str(extractor.model), extractor.model_name) == (found, name)
    assert str(Model(name, False, None, server=server.address).model) == found


def test_vissl_is_the_source_ssl(server: TestServer) -> None:
    with pytest.warns(DeprecationWarning, match="now called 'ssl'") as caught:
        extractor = get_extractor("simclr-rn50", False, None, "vissl", server=server.address)
    assert caught[0].filename == __file__
    assert str(extractor.model) == "ssl/simclr-rn50@random:0"


def test_extract_cls_token_is_a_token_extraction(server: TestServer) -> None:
    parameters = {"extract_cls_token": True}
    with pytest.warns(DeprecationWarning, match="token_extraction='cls_token'") as caught:
        extractor = get_extractor(
            "vit_b_16", False, None, "torchvision", model_parameters=parameters,
            server=server.address,
        )  # fmt: skip
    assert caught[0].filename == __file__
    assert extractor.token_extraction == "cls_token"
    for given, found in [
        ({"extract_cls_token": False}, {}),
        (
            {"extract_cls_token": True, "token_extraction": "avg_pool"},
            {"token_extraction": "avg_pool"},
        ),
    ]:
        with pytest.warns(DeprecationWarning, match="token_extraction"):
            assert current_parameters(given) == found


def test_an_extractor_is_made_by_its_class_too(server: TestServer) -> None:
    extractor = Extractor(
        model_name="alexnet", pretrained=False, device="cpu", source="torchvision",
        server=server.address,
    )  # fmt: skip
    assert str(extractor.model) == "torchvision/alexnet@random:0"
