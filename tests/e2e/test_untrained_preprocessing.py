"""Both façades preprocess images for models without pretrained weights as THINGSvision does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models, transforms

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import Client, DataLoader, ImageDataset, Model, get_extractor, vision
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.library.extractor import Extractor
from thingsvision_client.model_class import Model as PaperModel

MODULES = {
    "efficientnet_b0": ["features.3", "classifier.1"],
    "swin_t": ["features.1", "head"],
    "regnet_y_400mf": ["trunk_output.block2", "fc"],
}
"""Networks whose own presets resize or interpolate otherwise, and two modules of each."""

SIZES: list[dict[str, Any]] = [{}, {"resize_dim": 96, "crop_dim": 80}]
SQUARE = {"resize_dim": 64, "apply_center_crop": False}
SEED = 3


@cache
def network(name: str) -> nn.Module:
    torch.manual_seed(SEED)
    made: nn.Module = getattr(models, name)(weights=None)
    return made.eval()


def expected(
    name: str,
    photos: list[Path],
    resize_dim: int = 256,
    crop_dim: int = 224,
    apply_center_crop: bool = True,
) -> dict[str, np.ndarray]:
    """Return the modules' outputs in plain torch for the library's transform."""
    compose = transforms.Compose(
        [
            transforms.Resize(resize_dim),
            *([transforms.CenterCrop(crop_dim)] if apply_center_crop else []),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    inputs = torch.stack([compose(Image.open(photo).convert("RGB")) for photo in photos])
    outputs: dict[str, np.ndarray] = {}
    hooks = [
        network(name)
        .get_submodule(module)
        .register_forward_hook(
            lambda _module, _inputs, output, module=module: outputs.update({module: output.numpy()})
        )
        for module in MODULES[name]
    ]
    with torch.no_grad():
        network(name)(inputs)
    for hook in hooks:
        hook.remove()
    return outputs


@pytest.fixture(scope="module")
def few(photos: list[Path]) -> list[Path]:
    return photos[:2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("weights")

    def saved(name: str) -> Path:
        path = folder / f"{name}.pth"
        if not path.exists():
            torch.save(network(name).state_dict(), path)
        return path

    return saved


def batches_of(extractor: Extractor, photos: list[Path], folder: Path, **sizes: Any) -> DataLoader:
    """Return the photographs as scripts of the library load them."""
    dataset = ImageDataset(
        photos[0].parent,
        folder,
        extractor.get_backend(),
        file_names=[photo.name for photo in photos],
        transforms=extractor.get_transformations(**sizes),
    )
    return DataLoader(dataset, len(photos), extractor.get_backend())


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_uploaded_weights_have_the_librarys_transform(
    name: str,
    sizes: dict[str, Any],
    weights: Callable[[str], Path],
    server: TestServer,
    few: list[Path],
    tmp_path: Path,
) -> None:
    extractor = get_extractor(
        name, False, "cpu", "torchvision", model_path=weights(name), server=server.address
    )
    batches = batches_of(extractor, few, tmp_path, **sizes)
    features = extractor.extract_features(batches, module_names=MODULES[name])
    for module, rows in expected(name, few, **sizes).items():
        assert_close(features[module], rows, what=module)


@pytest.mark.parametrize("name", MODULES)
def test_the_papers_model_has_it_too(
    name: str,
    weights: Callable[[str], Path],
    server: TestServer,
    few: list[Path],
    tmp_path: Path,
) -> None:
    model = PaperModel(name, False, "cpu", model_path=weights(name), server=server.address)
    for sizes in SIZES:
        transforms_ = model.get_transformations(**sizes)
        loader = vision.load_dl(
            few[0].parent,
            tmp_path,
            "pt",
            batch_size=len(few),
            file_names=[photo.name for photo in few],
            transforms=transforms_,
        )
        for module, rows in expected(name, few, **sizes).items():
            features, _ = model.extract_features(loader, module, flatten_acts=False)
            assert_close(features, rows, what=module)


@pytest.fixture
def random_one(server: TestServer) -> Extractor:
    return get_extractor(
        "efficientnet_b0",
        False,
        "cpu",
        "torchvision",
        model_parameters={"seed": SEED},
        server=server.address,
    )


def test_random_weights_have_it_with_and_without_a_dataset_that_names_it(
    random_one: Extractor, client: Client, few: list[Path], tmp_path: Path
) -> None:
    right = expected("efficientnet_b0", few)
    names = [photo.name for photo in few]
    plain = DataLoader(ImageDataset(few[0].parent, tmp_path, "pt", file_names=names), 2, "pt")
    pictures = [Image.open(photo).convert("RGB") for photo in few]
    ways: dict[str, Any] = {
        "named": batches_of(random_one, few, tmp_path),
        "unnamed": plain,
        "pictures": [pictures],
        "inputs": [torch.stack([random_one.get_transformations()(one) for one in pictures])],
    }
    for way, batches in ways.items():
        features = random_one.extract_features(batches, module_names=MODULES["efficientnet_b0"])
        for module, rows in right.items():
            assert_close(features[module], rows, what=f"{way}: {module}")
    own = client.extract(random_one.model, few, "classifier.1").features["classifier.1"]
    preset = models.EfficientNet_B0_Weights.DEFAULT.transforms()
    with torch.no_grad():
        by_preset = network("efficientnet_b0")(torch.stack([preset(one) for one in pictures]))
    assert_close(own, by_preset, what="Client keeps the preset")
    assert np.abs(own - right["classifier.1"]).max() > 0.01 * np.abs(own).max()


def test_squares_need_no_crop(random_one: Extractor, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    squares = [tmp_path / "noise.png"]
    batches = batches_of(random_one, squares, tmp_path, **SQUARE)
    module = "features.3"
    features = random_one.extract_features(batches, module)
    assert_close(features, expected("efficientnet_b0", squares, **SQUARE)[module])
    with pytest.raises(InvalidRequestError, match="`resize_dim` must be a whole number"):
        random_one.get_transformations(resize_dim="large")  # type: ignore[arg-type]


def test_provenance_says_whose_the_preprocessing_is(
    random_one: Extractor, few: list[Path], tmp_path: Path
) -> None:
    changes = random_one.get_transformations(crop_dim=64).overrides
    found = random_one.client.extract(random_one.model, few, "features.3", preprocessing=changes)
    told = found.provenance.preprocessing
    assert (told.owner, told.interpolation) == ("THINGSvision", "bilinear")
    assert (told.resize_pixels, told.crop_pixels) == ((256,), (64,))
    assert "owner='THINGSvision'" in repr(random_one.get_transformations())
    batches = batches_of(random_one, few, tmp_path)
    random_one.extract_features(batches, "features.3", output_dir=tmp_path / "features")
    (written,) = (tmp_path / "features").rglob("*.npy.json")
    assert '"owner": "THINGSvision"' in written.read_text()


def test_a_model_that_is_assigned_keeps_it(
    random_one: Extractor, few: list[Path], tmp_path: Path
) -> None:
    """As in the library, where the transform goes by how the extractor was made."""
    random_one.model = Model("torchvision", "regnet_y_400mf", f"random:{SEED}")
    features = random_one.extract_features(batches_of(random_one, few, tmp_path), "fc")
    assert_close(features, expected("regnet_y_400mf", few)["fc"])
