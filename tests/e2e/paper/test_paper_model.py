"""The paper's Model: the sources of models, and their features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import squeezenet1_0

from support.papers_features import SQUEEZENET, alone, assert_same, names_in
from support.serving import TestServer
from thingsvision_client import Client, vision
from thingsvision_client.errors import (
    BadImagesError,
    InvalidRequestError,
    UnknownModelError,
)
from thingsvision_client.model_class import Model

# ---------------------------------------------------------------- where models come from


@pytest.mark.parametrize(
    ("name", "backend", "found"),
    [
        ("resnet50", "pt", "torchvision/resnet50"),  # timm has it, too
        ("cornet-s", "pt", "custom/cornet-s"),
        ("clip-ViT", "pt", "custom/clip/ViT-B-32"),
        ("clip-RN", "pt", "custom/clip/RN50"),
        ("Alexnet_ecoset", "pt", "custom/Alexnet_ecoset"),
        ("tf_efficientnet_lite0", "pt", "timm/tf_efficientnet_lite0"),
        ("VGG16", "tf", "keras/VGG16"),
    ],
)
def test_a_name_alone_finds_its_source(
    connected: Path, name: str, backend: str, found: str
) -> None:
    model = Model(name, pretrained=False, device="cpu", backend=backend)
    assert str(model.extractor.model) == f"{found}@random:0"
    assert str(Model(name, True, "cpu", None, backend).extractor.model) == found


@pytest.mark.parametrize(
    ("name", "backend", "said"),
    [
        ("alexnett", "pt", "near: alexnet"),
        ("vgg16", "tf", "near: VGG16, VGG19; there is one with backend='pt'"),
        ("clip-vit", "pt", "near: clip-ViT"),
        ("MobileNetV2", "pt", "; there is one with backend='tf'"),
        ("[ab]*?", "pt", "no model '[ab]*?' with backend='pt'."),
    ],
)
def test_an_unknown_name_says_which_are_near(
    connected: Path, name: str, backend: str, said: str
) -> None:
    with pytest.raises(UnknownModelError) as caught:
        Model(name, pretrained=True, device="cpu", backend=backend)
    assert said in str(caught.value)
    assert repr(name) in str(caught.value)


def test_a_source_can_be_named(server: TestServer) -> None:
    model = Model(
        "clip",
        pretrained=True,
        device="cpu",
        server=server.address,
        source="custom",
        model_parameters={"variant": "ViT-B/32"},
    )
    assert str(model.extractor.model) == "custom/clip/ViT-B-32"
    timm = Model("resnet50", False, "cpu", server=server.address, source="timm")
    assert str(timm.extractor.model) == "timm/resnet50@random:0"
    with pytest.raises(InvalidRequestError, match="`backend` must be 'tf' for keras/VGG16"):
        Model("VGG16", False, "cpu", server=server.address, source="keras")
    with pytest.raises(InvalidRequestError, match="`backend` must be one of pt, tf"):
        Model("VGG16", False, "cpu", backend="jax")


def test_a_device_that_the_server_lacks_gives_a_warning_at_the_users_line(connected: Path) -> None:
    with pytest.warns(UserWarning, match="no device 'cuda'") as caught:
        Model("squeezenet1_0", pretrained=False, device="cuda")
    assert [Path(one.filename).name for one in caught] == [Path(__file__).name]


# ---------------------------------------------------------------- features


def load(model: Model, batch_size: int = 2, **choices: Any) -> Any:
    transforms = model.get_transformations()
    return vision.load_dl(
        "images", "out", model.backend, batch_size, transforms=transforms, **choices
    )


def test_the_error_of_a_bad_image_has_features_and_targets_of_the_others(
    squeezenet: Model, tmp_path: Path
) -> None:
    paths = sorted(Path("images").rglob("*.*"))
    for place, path in enumerate(paths):
        copy = tmp_path / "some" / f"class {place}" / path.name
        copy.parent.mkdir(parents=True)
        copy.write_bytes(path.read_bytes()[: 500 if place == 1 else None])
    transforms = squeezenet.get_transformations()
    loader = vision.load_dl(
        tmp_path / "some", tmp_path / "out", squeezenet.backend, 2, transforms=transforms
    )
    whole, _ = squeezenet.extract_features(load(squeezenet), "features.0", flatten_acts=True)
    with pytest.raises(BadImagesError, match="features and targets of the other images") as caught:
        squeezenet.extract_features(loader, "features.0", flatten_acts=True)
    features, targets = caught.value.result
    assert len(features) == len(whole) - 1
    assert targets.ravel().tolist() == [0, 2, 3, 4]


def test_flatten_acts_has_no_default(squeezenet: Model) -> None:
    with pytest.raises(InvalidRequestError, match="`flatten_acts` must be True or False"):
        squeezenet.extract_features(load(squeezenet), "features.0", 2)


def test_maps_keep_their_shape_if_asked(server: TestServer, squeezenet: Model) -> None:
    features, targets = squeezenet.extract_features(
        load(squeezenet), "features.12", flatten_acts=False
    )
    assert features.shape == (5, 512, 13, 13)
    names = names_in(Path("out"))
    expected = alone(server, SQUEEZENET, Path("images"), names, "features.12")
    assert_same(features.reshape(5, -1), expected)
    assert targets.tolist() == [[0], [0], [1], [1], [1]]


def test_arguments_without_effect_give_a_warning(squeezenet: Model) -> None:
    loader = load(squeezenet)
    with pytest.warns(UserWarning, match="batch_size=3 is ignored: data_loader has 2") as caught:
        squeezenet.extract_features(loader, "classifier.3", 3, flatten_acts=True)
    assert Path(caught[0].filename).name == Path(__file__).name
    with pytest.warns(UserWarning, match="device='cuda' is ignored: the model has 'cpu'"):
        squeezenet.extract_features(loader, "classifier.3", 2, True, "cuda")


def test_a_user_defined_loader_gives_its_rows_and_targets(squeezenet: Model) -> None:
    torch.manual_seed(1)
    images, classes = torch.randn(5, 3, 64, 64), torch.tensor([3, 1, 4, 1, 5])
    dataset = torch.utils.data.TensorDataset(images, classes)
    features, targets = squeezenet.extract_features(
        torch.utils.data.DataLoader(dataset, batch_size=2), "classifier.3", flatten_acts=True
    )
    assert targets.tolist() == [[3], [1], [4], [1], [5]]
    with Client(squeezenet.extractor.client.server) as client:
        rows = [client.extract(SQUEEZENET, one[None].numpy(), "classifier.3") for one in images]
    expected = np.concatenate([row.features["classifier.3"].reshape(1, -1) for row in rows])
    assert_same(features, expected)


def test_probabilities_come_from_the_same_forward_pass(
    server: TestServer, squeezenet: Model
) -> None:
    def passes() -> float:
        registry = server.running.metrics.registry
        return registry.get_sample_value("thingsvision_images_total") or 0

    loader, before = load(squeezenet), passes()
    features, targets, probabilities = squeezenet.extract_features(
        loader, "features.3", flatten_acts=True, return_probabilities=True
    )
    assert passes() - before == 5
    names = names_in(Path("out"))
    assert_same(features, alone(server, SQUEEZENET, Path("images"), names, "features.3"))
    assert targets.tolist() == [[0], [0], [1], [1], [1]]
    scores = alone(server, SQUEEZENET, Path("images"), names, "classifier.3")
    assert_same(probabilities, torch.softmax(torch.tensor(scores), 1).numpy())
    Path("classes.txt").write_text("".join(f"class {number}\n" for number in range(1000)))
    best = vision.get_class_probabilities(probabilities, "out", "classes.txt", 1, False)
    assert list(best) == [f"images/{name}" for name in names]
    assert [[int(k[6:]) for k in one] for one in best.values()] == (
        scores.argmax(1)[:, None].tolist()
    )


def test_probabilities_of_keras_are_those_of_its_own_softmax(
    server: TestServer, connected: Path
) -> None:
    model = Model("MobileNetV2", pretrained=False, device="cpu", backend="tf")
    loader = load(model, batch_size=5)
    features, targets, probabilities = model.extract_features(
        loader, "global_average_pooling2d", flatten_acts=True, return_probabilities=True
    )
    with Client(server.address) as client:
        images = [Path("images", name) for name in names_in(Path("out"))]
        modules = ["global_average_pooling2d", "predictions"]
        asked = model.get_transformations().overrides  # without weights it is the library's
        same = client.extract(
            model.extractor.model, images, modules, batch_size=5, preprocessing=asked
        )
        found = same.features
    largest = np.abs(found["global_average_pooling2d"]).max()
    np.testing.assert_allclose(
        features, found["global_average_pooling2d"], rtol=0, atol=1e-6 * largest
    )
    np.testing.assert_allclose(probabilities, found["predictions"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert targets.tolist() == [[0], [0], [1], [1], [1]]


def test_clip_has_no_class_probabilities(connected: Path) -> None:
    model = Model("clip-RN", pretrained=False, device="cpu")
    with pytest.raises(InvalidRequestError, match="CLIP"):
        model.extract_features(
            load(model), "visual", flatten_acts=True, clip=True, return_probabilities=True
        )


def test_the_users_weights_are_used(server: TestServer, connected: Path) -> None:
    torch.manual_seed(9)
    network = squeezenet1_0(weights=None).eval()
    torch.save(network.state_dict(), "own.pth")
    model = Model("squeezenet1_0", pretrained=False, device="cpu", model_path="own.pth")
    images = torch.randn(2, 3, 64, 64)
    features, _ = model.extract_features([(images, [0, 1])], "classifier.3", flatten_acts=True)
    with torch.inference_mode():
        expected = network.classifier(network.features(images)).reshape(2, -1).numpy()
    assert_same(features, expected)
