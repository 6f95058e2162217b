"""What a request changes of a model's preprocessing is what torchvision does, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models, transforms
from torchvision.transforms import InterpolationMode

from support.closeness import assert_close
from support.serving import TestServer
from support.stock_calls import extraction, image, stock_calls
from thingsvision_client import (
    Client,
    DataLoader,
    ImageDataset,
    Model,
    PreprocessingOverrides,
    compute_rdm,
    errors,
    get_extractor,
)
from thingsvision_client.library.extractor import Extractor
from thingsvision_proto.v1 import thingsvision_pb2 as pb

SEED = 7
RESNET = Model("torchvision", "resnet18", f"random:{SEED}")
MODULES = ["layer3", "fc"]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(SEED)
    made: nn.Module = models.resnet18(weights=None)
    return made.eval()


@pytest.fixture(scope="module")
def extractor(server: TestServer) -> Extractor:
    seed = {"seed": SEED}
    return get_extractor(
        "resnet18", False, None, "torchvision", model_parameters=seed, server=server.address
    )


def forward(network: nn.Module, inputs: list[torch.Tensor]) -> dict[str, np.ndarray]:
    """Return the modules' outputs in one plain forward pass."""
    outputs: dict[str, np.ndarray] = {}
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.update({name: output.numpy()})
        )
        for name in MODULES
    ]
    with torch.no_grad():
        network(torch.stack(inputs))
    for handle in handles:
        handle.remove()
    return outputs


def opened(photos: list[Path]) -> Iterator[Image.Image]:
    return (Image.open(path).convert("RGB") for path in photos)


def own_inputs(photos: list[Path]) -> list[torch.Tensor]:
    own = models.ResNet18_Weights.DEFAULT.transforms()
    return [own(picture) for picture in opened(photos)]


CHANGES = [
    (
        PreprocessingOverrides(resize=128, crop=96),
        [transforms.Resize(128), transforms.CenterCrop(96)],
        (MEAN, STD),
    ),
    (
        PreprocessingOverrides(resize=(96, 160), crop=False),
        [transforms.Resize([96, 160])],
        (MEAN, STD),
    ),
    (
        PreprocessingOverrides(crop=(100, 200), interpolation="bicubic"),
        [
            transforms.Resize(256, InterpolationMode.BICUBIC),
            transforms.CenterCrop((100, 200)),
        ],
        (MEAN, STD),
    ),
    (
        PreprocessingOverrides(resize=64, crop=64, interpolation="nearest", mean=HALF, std=HALF),
        [transforms.Resize(64, InterpolationMode.NEAREST), transforms.CenterCrop(64)],
        (HALF, HALF),
    ),
]


@pytest.mark.parametrize(("changes", "steps", "norm"), CHANGES, ids=lambda value: str(value)[:40])
def test_changes_are_what_torchvision_composes(
    client: Client,
    network: nn.Module,
    photos: list[Path],
    changes: PreprocessingOverrides,
    steps: list[Any],
    norm: tuple[list[float], list[float]],
) -> None:
    compose = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(*norm)])
    expected = forward(network, [compose(picture) for picture in opened(photos)])
    found = client.extract(RESNET, photos, MODULES, batch_size=len(photos), preprocessing=changes)
    for module in MODULES:
        assert_close(found.features[module], expected[module])
    told = found.provenance.preprocessing
    assert (list(told.mean), list(told.std)) == norm
    for step in steps:
        assert " ".join(repr(step).split()) in told.description


def test_a_smaller_crop_gives_smaller_maps_and_the_reply_tells_it(
    client: Client, photos: list[Path]
) -> None:
    changes = PreprocessingOverrides(crop=128)
    found = client.extract(RESNET, photos[:1], ["layer4", "fc"], preprocessing=changes)
    assert {name: rows.shape for name, rows in found.features.items()} == {
        "layer4": (1, 512, 4, 4),
        "fc": (1, 1000),
    }
    told = json.loads(found.to_json())
    assert list(told["preprocessing"]) == [f.name for f in pb.Preprocessing.DESCRIPTOR.fields]
    assert told["preprocessing"]["crop_pixels"] == [128, 128]
    assert told["preprocessing"]["resize_pixels"] == [256], "what is not changed stays"
    assert told["modules"] == {"layer4": [512, 4, 4], "fc": [1000]}
    assert told["model"] == str(RESNET)
    assert json.loads(found.provenance.preprocessing.to_json()) == told["preprocessing"]


def test_changes_of_nothing_are_the_models_own_way(client: Client, photos: list[Path]) -> None:
    own = client.extract(RESNET, photos, "fc", batch_size=2)
    same = client.extract(
        RESNET, photos, "fc", batch_size=2, preprocessing=PreprocessingOverrides()
    )
    np.testing.assert_array_equal(same.features["fc"], own.features["fc"])
    assert same.provenance == own.provenance


@pytest.mark.parametrize(
    ("model", "changes", "sentence"),
    [
        (
            "timm/vit_tiny_patch16_224@random:0",
            PreprocessingOverrides(resize=128, crop=128),
            r"can't take inputs of 3 x 128 x 128: .*\b224\b",
        ),
        (RESNET, PreprocessingOverrides(interpolation="cubic"), "nearest, bilinear, bicubic, lan"),
        (RESNET, PreprocessingOverrides(crop=5000), "from 1 to 4096, got .5000"),
        (RESNET, PreprocessingOverrides(std=[1, 0, 1]), "`std` must not contain 0"),
    ],
)
def test_impossible_changes_are_refused(
    client: Client,
    photos: list[Path],
    model: Model | str,
    changes: PreprocessingOverrides,
    sentence: str,
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=sentence):
        client.extract(model, photos, "", preprocessing=changes)


# ---------------------------------------------------------------- ready inputs


def test_inputs_made_at_home_give_the_very_same_bits(client: Client, photos: list[Path]) -> None:
    inputs = own_inputs(photos)
    expected = client.extract(RESNET, photos, MODULES, batch_size=2).features
    names = [photo.name for photo in photos]
    batch = torch.stack(inputs).numpy()
    column_order = np.asfortranarray(batch)
    assert not column_order[0].flags.c_contiguous
    ways: dict[str, Any] = {
        "an array": batch,
        "pairs": list(zip(names, batch, strict=True)),
        "a generator": zip(names, batch, strict=True),
        "in another order": list(zip(names, column_order, strict=True)),
        "wider and big-endian": batch.astype(">f8"),
        "torch tensors": list(zip(names, inputs, strict=True)),
    }
    for way, images in ways.items():
        found = client.extract(RESNET, images, MODULES, batch_size=2)
        for module in MODULES:
            assert_close(found.features[module], expected[module], what=way)
        numbered = [str(row) for row in range(len(names))]
        assert found.images == (numbered if isinstance(images, np.ndarray) else names), way
    assert found.provenance.preprocessing.description.startswith("none: float32 tensors of 3 x 224")


def test_inputs_of_another_size_and_rdms_of_them(client: Client, network: nn.Module) -> None:
    batch = np.random.default_rng(0).normal(size=(5, 3, 64, 96)).astype("float32")
    expected = forward(network, list(torch.from_numpy(batch)))["layer3"]
    found = client.extract(RESNET, batch, "layer3", batch_size=5).features["layer3"]
    np.testing.assert_array_equal(found, expected)
    rdm = client.rdm(RESNET, batch, "layer3", batch_size=5, dtype="float64").rdms["layer3"]
    np.testing.assert_allclose(rdm, compute_rdm(expected.reshape(5, -1)), atol=1e-12)


def test_inputs_that_can_not_be_sent_as_they_are_name_the_image(
    client: Client, photos: list[Path]
) -> None:
    good = ("good", np.zeros((3, 64, 64), "float32"))
    wrong: list[tuple[Any, str]] = [
        (("odd", np.zeros((3, 64, 65), "float32")), "'odd' is an array of 3 x 64 x 65, .* 64 x 64"),
        (photos[0], "astronaut.png' is a file, but the first is an array"),
        (("fine", np.full((3, 64, 64), 1 / 3)), "'fine' has values of type float64 that float32"),
        (
            ("big", np.full((3, 64, 64), 2**24 + 1)),
            "'big' is an array of int64, but an image must be uint8 of height",
        ),
        (("complex", np.zeros((3, 64, 64), complex)), "'complex' has values of type complex128"),
    ]
    for image_like, sentence in wrong:
        with pytest.raises(errors.ImageError, match=sentence) as caught:
            client.extract(RESNET, [good, image_like], "fc")
        name = str(image_like) if isinstance(image_like, Path) else image_like[0]
        assert caught.value.subject == name
    with pytest.raises(errors.ImageError, match="'empty' must be an array with values"):
        client.extract(RESNET, [("empty", np.zeros((3, 0, 64)))], "fc")
    with pytest.raises(errors.InvalidRequestError, match="4-D"):
        client.extract(RESNET, np.zeros((3, 64, 64), "float32"), "fc")
    with pytest.raises(errors.InvalidRequestError, match=r"preprocessed already.*crop=32"):
        client.extract(RESNET, [good], "fc", preprocessing=PreprocessingOverrides(crop=32))


def test_inputs_that_the_model_can_not_take_are_refused(client: Client) -> None:
    with pytest.raises(errors.InvalidRequestError, match="can't take inputs of 4 x 64 x 64"):
        client.extract(RESNET, np.zeros((1, 4, 64, 64), "float32"), "fc")


def test_what_does_not_fit_the_header_is_refused_by_the_server(
    server: TestServer, photos: list[Path]
) -> None:
    file = image(0, "a.png", photos[0].read_bytes())
    text = pb.ExtractRequest(image=pb.Image(index=0, name="t", text="a cat"))
    tensor = pb.ExtractRequest(image=pb.Image(index=0, name="x", tensor=bytes(4 * 3 * 64 * 64)))
    short = pb.ExtractRequest(image=pb.Image(index=0, name="short", tensor=bytes(12)))
    plain = extraction("classifier.1")
    ready = extraction("classifier.1", tensors=pb.TensorInput(shape=[3, 64, 64]))
    cases = [
        (plain, tensor, "'x') is a tensor", "take an encoded image"),
        (plain, text, "'t') is a text", "take an encoded image"),
        (ready, file, "'a.png') is an encoded image", "take a tensor"),
        (ready, short, "'short') has 12 bytes", "3 x 64 x 64 has 49,152"),
    ]
    with stock_calls(server.address) as calls:
        for header, item, *parts in cases:
            refusal = calls.refusal("Extract", [header, item])
            assert refusal.reason == "ImageError"
            assert all(part in refusal.sentence for part in parts), refusal.sentence
        empty = extraction("classifier.1", tensors=pb.TensorInput())
        assert "positive numbers" in calls.refusal("Extract", [empty, tensor]).sentence
        served = calls.call("Extract", [ready, tensor])
        assert served[-1].trailer.image_count == 1


# ---------------------------------------------------------------- the library's own way


def dataset(extractor: Extractor, photos: list[Path], out: Path, *sizes: Any) -> DataLoader:
    names = [photo.name for photo in photos]
    images = ImageDataset(
        photos[0].parent,
        out,
        extractor.get_backend(),
        file_names=names,
        transforms=extractor.get_transformations(*sizes),
    )
    return DataLoader(images, len(names), extractor.get_backend())


def test_sizes_given_to_get_transformations_apply(
    client: Client, extractor: Extractor, photos: list[Path], tmp_path: Path
) -> None:
    changes = PreprocessingOverrides(resize=128, crop=96)
    expected = client.extract(RESNET, photos, "fc", batch_size=len(photos), preprocessing=changes)
    found = extractor.extract_features(dataset(extractor, photos, tmp_path, 128, 96), "fc")
    np.testing.assert_array_equal(found, expected.features["fc"])
    own = extractor.extract_features(dataset(extractor, photos, tmp_path), "fc")
    plain = client.extract(RESNET, photos, "fc", batch_size=len(photos)).features["fc"]
    np.testing.assert_array_equal(own, plain)
    assert not np.array_equal(own, found)


def test_without_a_crop_images_must_be_of_one_shape(
    extractor: Extractor, photos: list[Path], tmp_path: Path
) -> None:
    uncropped = dataset(extractor, photos, tmp_path, 256, 224, False)
    with pytest.raises(errors.ImageError, match=r"chelsea\.png.*3 x 256 x 384 instead of 3 x 256"):
        extractor.extract_features(uncropped, "fc")
    square = dataset(extractor, photos[:1], tmp_path, 256, 224, False)
    assert extractor.extract_features(square, "layer3").shape == (1, 256, 16, 16)


def test_transformations_say_what_they_stand_for(server: TestServer) -> None:
    trained = get_extractor("resnet18", True, None, "torchvision", server=server.address)
    assert "resize_size=[256]" in repr(trained.get_transformations())
    assert "crop=False" in repr(trained.get_transformations(apply_center_crop=False))


def test_preprocessing_is_known_before_anything_is_loaded(client: Client) -> None:
    default = client.preprocessing("torchvision/resnet50")
    first = client.preprocessing("torchvision/resnet50@IMAGENET1K_V1")
    assert default is not None
    assert first is not None
    assert (default.resize_pixels, first.resize_pixels) == ((232,), (256,))
    assert client.preprocessing(RESNET) is None, "random weights have no tag"


def test_the_backend_is_what_the_server_says(server: TestServer, extractor: Extractor) -> None:
    assert extractor.get_backend() == "pt"
    keras = get_extractor("MobileNetV2", True, None, "keras", server=server.address)
    assert keras.get_backend() == "tf"
