"""A user's transforms become data, or are refused by the step; other tests judge the values."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models, transforms
from torchvision.transforms import InterpolationMode, functional, v2

from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.utils.transforms import ServerTransforms, as_transforms
from thingsvision_client.values.input_shapes import shape_of_inputs
from thingsvision_client.values.options import ExtractOptions
from thingsvision_client.values.preprocessing import (
    Preprocessing,
    PreprocessingOverrides,
    changes_of,
)
from thingsvision_client.values.torchvision_steps import read_transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOMENTS = {"mean": MEAN, "std": STD}
BICUBIC = InterpolationMode.BICUBIC
END = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]


def fields(**expected: Any) -> Preprocessing:
    return Preprocessing(**{"value_range": "0..1", "owner": "user"} | expected)


def _convert_image_to_rgb(image: Any) -> Any:
    return image.convert("RGB")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (
            transforms.Compose([
                transforms.Resize((40, 48), BICUBIC), transforms.CenterCrop((32, 24)),
                _convert_image_to_rgb, *END,
            ]),
            fields(resize_pixels=(40, 48), interpolation="bicubic", crop_pixels=(32, 24),
                   **MOMENTS),
        ),
        (
            v2.Compose([
                v2.Resize(40), v2.CenterCrop(32), v2.PILToTensor(), v2.ToDtype(torch.float32),
                v2.Normalize(MEAN, STD), v2.ToPureTensor(),
            ]),
            fields(resize_pixels=(40,), interpolation="bilinear", crop_pixels=(32, 32),
                   value_range="0..255", **MOMENTS),
        ),
        (nn.Sequential(transforms.Resize(40), v2.PILToTensor(), nn.Identity(),
                       transforms.ConvertImageDtype(torch.float32)),
         fields(resize_pixels=(40,), interpolation="bilinear")),
        (models.AlexNet_Weights.DEFAULT.transforms(),
         fields(resize_pixels=(256,), interpolation="bilinear", crop_pixels=(224, 224), **MOMENTS)),
        (models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1.transforms(),
         fields(resize_pixels=(384,), interpolation="bicubic", crop_pixels=(384, 384), **MOMENTS)),
        (transforms.ToTensor(), fields()),
        ({"resize_pixels": 40, "crop_pixels": [32, 24], "channel_order": "BGR"},
         Preprocessing(resize_pixels=(40,), crop_pixels=(32, 24), channel_order="BGR")),
    ],
)  # fmt: skip
def test_what_fields_can_say_become_fields(given: Any, expected: Preprocessing | None) -> None:
    assert read_transforms(given) == expected


def kinds(given: Any) -> list[str]:
    found = read_transforms(given)
    assert found is not None
    return [step.kind for step in found.steps]


def test_other_orders_and_kinds_stay_steps() -> None:
    assert kinds(transforms.Compose([transforms.ToTensor(), transforms.Resize(9)])) == [
        "to_tensor", "resize"
    ]  # fmt: skip
    assert kinds(transforms.Compose([transforms.CenterCrop(9), transforms.Resize(9), *END])) == [
        "center_crop", "resize", "to_tensor", "normalize"
    ]  # fmt: skip
    modern = v2.Compose([v2.ToImage(), v2.Resize(9), v2.ToDtype(torch.float32, scale=True)])
    found = read_transforms(modern)
    assert found is not None
    assert [step.is_v2 for step in found.steps] == [True] * 3, "its arithmetic differs on tensors"
    assert (found.resize_pixels, found.value_range) == ((9,), "0..1"), "a summary for readers"
    assert ExtractOptions(preprocessing=changes_of(found.to_changes())).preprocessing == found


class OwnResize(transforms.Resize):
    """A step of a user, which may do anything."""


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (transforms.Compose([transforms.Resize(9), transforms.RandomHorizontalFlip(), *END]),
         r"step RandomHorizontalFlip\(p=0.5\), which is random"),
        (transforms.RandomApply([transforms.Resize(9)]), r"step RandomApply\(.*which is random"),
        (transforms.Compose([transforms.ColorJitter(0.1), *END]), "ColorJitter.*is random"),
        (v2.Compose([v2.RandomResizedCrop(9), *END]), "RandomResizedCrop.*is random"),
        (transforms.Compose([*END, transforms.Lambda(lambda x: 2 * x)]),
         r"step Lambda\(.*which is code of yours"),
        (transforms.Compose([lambda image: image, *END]), "<function.*which is code of yours"),
        (transforms.Compose([partial(str), *END]), "which is code of yours"),
        (transforms.Compose([OwnResize(9), *END]), "class is not torchvision's but of the module"),
        (transforms.Compose([functional.to_grayscale, *END]), "function: use the class of that"),
        ([transforms.Resize(9), *END], r"list of 3: give torchvision.transforms.Compose\(steps\)"),
        (models.AlexNet_Weights.DEFAULT.transforms, r"call weights.transforms\(\)"),
        (models.AlexNet_Weights.DEFAULT, r"give AlexNet_Weights.IMAGENET1K_V1.transforms\(\)"),
        (transforms.Compose([transforms.FiveCrop(9), *END]),
         r"step FiveCrop\(.*which is not one of Resize, CenterCrop"),
        (nn.Sequential(nn.Conv2d(3, 3, 1)), "step Conv2d.*which is not one of Resize"),
        (transforms.Compose([transforms.Resize(9)]),
         "must end with float32 values, got a Pillow image at the end.*add.*ToTensor"),
        (v2.Compose([v2.RGB(), v2.ToImage()]), "got uint8 values at the end.*add.*ToDtype"),
        (v2.Compose([v2.ToImage(), v2.ToDtype(torch.float16, scale=True)]),
         "ToDtype.*but inputs must be float32"),
        (transforms.Compose([transforms.Normalize(MEAN, STD), transforms.ToTensor()]),
         "Normalize.* after a Pillow image, but it takes float32 values"),
        (transforms.Compose([transforms.ToTensor(), transforms.ToTensor()]),
         r"ToTensor\(\) after float32 values, but it takes a Pillow image"),
        (transforms.Compose([transforms.Grayscale(1), v2.RGB(), *END]), "RGB.*after Grayscale"),
        ({"crop": 3}, "Valid fields: resize_pixels"),
    ],
)  # fmt: skip
def test_what_no_server_can_do_is_named(given: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        read_transforms(given)


class Resize(nn.Module):
    """Named as torchvision's, but another's."""

    size, interpolation = 9, 2


def test_a_step_of_another_library_is_not_taken_for_torchvisions() -> None:
    with pytest.raises(InvalidRequestError, match=r"not torchvision's but .*test_transform"):
        as_transforms(transforms.Compose([Resize(), *END]))


@pytest.mark.parametrize(
    ("steps", "shape"),
    [
        ([transforms.Resize(40), transforms.CenterCrop(32), *END], (3, 32, 32)),
        ([transforms.CenterCrop((30, 60)), transforms.Resize(20), *END], (3, 20, 40)),
        ([transforms.Resize((20, 24)), transforms.Pad((1, 2)), *END], (3, 24, 26)),
        ([transforms.Grayscale(), transforms.Resize(28), transforms.ToTensor()], (1, 28, 28)),
        ([transforms.ToTensor()], None),
    ],
)
def test_the_shape_of_inputs_is_known(steps: list[Any], shape: tuple[int, ...] | None) -> None:
    found = read_transforms(transforms.Compose(steps))
    assert found is not None
    assert shape_of_inputs(found) == shape


def test_what_a_user_may_pass_as_transforms() -> None:
    changes = PreprocessingOverrides(resize=9)
    assert as_transforms(None) == ServerTransforms()
    assert as_transforms(changes) == ServerTransforms(changes)
    assert as_transforms({"resize_pixels": 9}).for_model("a/b") == Preprocessing(resize_pixels=(9,))
    assert "Resize(size=9" in repr(as_transforms(transforms.Compose([*END, transforms.Resize(9)])))
    with pytest.raises(
        InvalidRequestError, match="not made by an extractor, so they can't be called"
    ):
        as_transforms(None)(torch.zeros(3, 3, 3))


@pytest.mark.parametrize("written", [{"resize": 9, "crop": False}, {"value_range": "0..1"}, {}])
def test_json_says_which_of_both_it_is(written: dict[str, Any]) -> None:
    kind = Preprocessing if "value_range" in written else PreprocessingOverrides
    assert type(changes_of(written)) is kind
    with pytest.raises(InvalidRequestError, match="must have fields of PreprocessingOverrides"):
        changes_of({"resize": 9, "resize_pixels": [9]})
