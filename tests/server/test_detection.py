"""Networks of torchvision that see more than a class: segmentation, detection, other sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import nn
from torchvision import models

from support.serving import all_cores, open_sources
from thingsvision_client import Client
from thingsvision_client.errors import ImageError, ModuleNeverRunsError, NotExtractableError
from thingsvision_client.values.preprocessing import PreprocessingOverrides
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Pretrained

# The heads' modules run once for each level of features; what counts is the last.
DETECTION = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": (320, ["backbone.body.4", "rpn.head.cls_logits"]),
    "ssdlite320_mobilenet_v3_large": (320, ["backbone.features.0", "head.regression_head"]),
}

CROP = PreprocessingOverrides(crop=520)
RESIZE = PreprocessingOverrides(resize=(200, 300))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return open_sources(tmp_path_factory.mktemp("weights"))


def photo(path: Path, side: int, folder: Path) -> Path:
    """Return a square copy, side x side pixels."""
    copy = folder / f"{path.stem}-{side}.png"
    Pillow.open(path).convert("RGB").resize((side, side)).save(copy)
    return copy


def hooked(network: nn.Module, inputs: Any, modules: list[str]) -> dict[str, np.ndarray]:
    """Return the last outputs of modules in a whole pass of the network."""
    kept: dict[str, Any] = {}
    for name in modules:
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: kept.update({name: output.clone()})
        )
    with torch.inference_mode(), all_cores():
        network.eval()(inputs)
    return {name: output.numpy() for name, output in kept.items()}


@pytest.mark.parametrize("name", DETECTION)
def test_detection_gives_what_its_own_pass_gives_up_to_boxes(
    client: Client, photos: list[Path], tmp_path: Path, name: str
) -> None:
    side, modules = DETECTION[name]
    pictures = [photo(path, side, tmp_path) for path in photos[:2]]
    torch.manual_seed(0)
    network = models.get_model(name, weights=None, weights_backbone=None)
    transform = models.get_model_weights(name).DEFAULT.transforms()
    inputs = [transform(Pillow.open(path)) for path in pictures]
    expected = hooked(network, inputs, modules)
    model = f"torchvision/{name}@random:0"
    found = client.extract(model, pictures, modules, batch_size=2)
    for module in modules:
        np.testing.assert_array_equal(found.features[module], expected[module])


def test_boxes_are_not_features(client: Client, photos: list[Path], tmp_path: Path) -> None:
    picture = photo(photos[0], 320, tmp_path)
    model = "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn@random:0"
    with pytest.raises(ModuleNeverRunsError, match=r"roi_heads\.box_head"):
        client.extract(model, [picture], "roi_heads.box_head")
    with pytest.raises(NotExtractableError, match="OrderedDict of 0, 1, pool; request a module"):
        client.extract(model, [picture], "backbone")


def test_segmentation_gives_what_torchvision_gives(
    client: Client, photos: list[Path], tmp_path: Path
) -> None:
    name, modules = "lraspp_mobilenet_v3_large", ["backbone.16", "classifier.high_classifier"]
    pictures = [photo(path, 700, tmp_path) for path in photos[:2]]
    torch.manual_seed(0)
    network = models.get_model(name, weights=None, weights_backbone=None)
    transform = models.get_model_weights(name).DEFAULT.transforms()
    inputs = torch.stack([transform(Pillow.open(path)) for path in pictures])
    expected = hooked(network, inputs, modules)
    found = client.extract(f"torchvision/{name}@random:0", pictures, modules, batch_size=2)
    for module in modules:
        np.testing.assert_array_equal(found.features[module], expected[module])


def test_an_image_that_does_not_fit_is_refused_with_the_way_out(
    client: Client, photos: list[Path]
) -> None:
    (wide,) = (path for path in photos if "coffee" in path.name)
    model, module = "torchvision/lraspp_mobilenet_v3_large@random:0", "backbone.0"
    with pytest.raises(ImageError) as caught:
        client.extract(model, [wide], module)
    assert str(caught.value) == (
        f"1 of 1 image can't be used: image 0 ({str(wide)!r}) gives an input of 3 x 520 x 780 "
        "instead of 3 x 520 x 520: the "
        "shorter side becomes 520 pixels and nothing is cropped; send square images, or override "
        "resize_pixels with height and width, or crop_pixels. There are no others."
    )
    cropped = client.extract(model, [wide], module, preprocessing=CROP)
    assert cropped.features[module].shape == (1, 16, 260, 260)
    resized = client.extract(model, [wide], module, preprocessing=RESIZE)
    assert resized.features[module].shape == (1, 16, 100, 150)


def test_an_image_that_is_not_resized_has_the_size_of_the_network(
    client: Client, photos: list[Path]
) -> None:
    model = "torchvision/ssdlite320_mobilenet_v3_large@random:0"
    with pytest.raises(ImageError, match="cropped; send images of 320 x 320 pixels, or"):
        client.extract(model, photos[:1], "backbone.features.0")
    resized = PreprocessingOverrides(resize=(320, 320))
    found = client.extract(model, photos[:1], "backbone.features.0", preprocessing=resized)
    assert found.provenance.preprocessing.interpolation == "bilinear"


@pytest.mark.parametrize(
    ("source", "name", "tag", "side", "outputs"),
    [
        ("torchvision", "vit_b_16", "IMAGENET1K_SWAG_E2E_V1", 384, 1000),
        ("torchvision", "fcn_resnet50", "COCO_WITH_VOC_LABELS_V1", 520, 0),
        ("timm", "vit_base_patch16_224_miil", "in21k_ft_in1k", 224, 1000),
        ("timm", "vit_base_patch16_224_miil", "in21k", 224, 11221),
        ("timm", "vit_base_patch16_clip_224", "openai", 224, 512),
    ],
)
def test_weights_of_other_sizes_or_classes_have_their_own_structure(
    sources: Sources, source: str, name: str, tag: str, side: int, outputs: int
) -> None:
    key = sources[source].resolve(ModelKey(source, name, Pretrained(tag)))
    assert sources[source].transforms(key)["image"].spec.shape == (3, side, side)
    (root,) = (m for m in sources[source].structure(key).modules if not m.name)
    assert root.last.shape == ((outputs,) if outputs else ())
