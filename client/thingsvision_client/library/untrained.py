"""The preprocessing that THINGSvision gives a model made without pretrained weights."""

from __future__ import annotations

import re
from dataclasses import replace

from ..calls.caller import warn_caller
from ..errors import InvalidRequestError
from ..values.model import Model
from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from ..values.preprocessing_step import PreprocessingStep
from ..values.records import ModelInfo

OWNER = "THINGSvision"
"""Owner of a preprocessing that is the library's, in provenance."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_PIL = Preprocessing(
    resize_pixels=(256,),
    interpolation="bilinear",
    crop_pixels=(224,),
    value_range="0..1",
    mean=_MEAN,
    std=_STD,
    owner=OWNER,
)
"""That of PyTorch's networks."""

_FAMILIES = re.compile(
    "ConvNeXt(Base|Large|Small|Tiny|XLarge)|DenseNet[0-9]+|EfficientNetB[0-7]|"
    "EfficientNetV2(B[0-3]|[LMS])|InceptionResNetV2|InceptionV3|MobileNet|MobileNetV2|"
    "MobileNetV3(Large|Small)|ResNet[0-9]+(V2)?|VGG16|VGG19|Xception"
)
"""Classes of Keras whose family's `preprocess_input` the library uses."""

_ONE_FOR_ALL = re.compile("cornet|.*_ecoset$|AlexNet_SalObjSub$|Harmonization/")
"""Models of `custom` for which the library has no preprocessing of their own."""


def preprocessing_without_weights(
    model: ModelInfo | None, own: Preprocessing | None
) -> Preprocessing | None:
    """Return the library's preprocessing of a model; None stands for the model's own, `own`.

    The library asks the weights of torchvision's networks for a preprocessing; without weights
    all of them get the same one, whatever they were trained with. Keras resizes tensors, without
    smoothing what it makes smaller.
    """
    if model is None:
        return None
    if (model.source, model.task) == ("torchvision", "classification"):
        return _PIL
    if model.source == "keras" and _FAMILIES.fullmatch(model.name) and own is not None:
        return _of_family(own)
    if model.source == "keras":
        return _of_tensors((224,))
    return None


def with_sizes(
    model: Model,
    changes: PreprocessingOverrides | Preprocessing | None,
    sizes: PreprocessingOverrides,
) -> PreprocessingOverrides | Preprocessing | None:
    """Return what the library does with sizes for a model without pretrained weights.

    For some models it ignores them; here, there is a warning.
    """
    source, name = model.source, model.name
    keeps_its_own = (
        source == "timm"
        or (source == "keras" and _FAMILIES.fullmatch(name) is not None)
        or (source == "custom" and _ONE_FOR_ALL.match(name) is None)
    )
    if keeps_its_own:
        warn_caller(
            f"{source}/{name} keeps its own preprocessing, as in THINGSvision: the arguments of "
            "get_transformations are ignored. To change it, give the dataset "
            "`transforms=PreprocessingOverrides(...)`.",
        )
        return changes
    if source == "keras":
        return _of_tensors(tuple(sizes.to_message().crop_pixels))
    return change_sizes(changes, sizes)


def change_sizes(
    changes: PreprocessingOverrides | Preprocessing | None, sizes: PreprocessingOverrides
) -> PreprocessingOverrides | Preprocessing:
    """Return a preprocessing with other sizes. Raises InvalidRequestError if it has steps."""
    if not isinstance(changes, Preprocessing):
        known = changes or PreprocessingOverrides()
        return replace(known, resize=sizes.resize, crop=sizes.crop)
    if changes.steps:
        raise InvalidRequestError(
            "`preprocess` has steps in an order of its own, so its sizes can't be changed: make "
            "another Compose, and pass it as the dataset's `transforms`."
        )
    checked = sizes.to_message()
    return replace(
        changes,
        resize_pixels=tuple(checked.resize_pixels),
        crop_pixels=tuple(checked.crop_pixels),
    )


def is_of_library(changes: PreprocessingOverrides | Preprocessing | None) -> bool:
    """Whether it is the library's preprocessing, with whatever sizes."""
    return isinstance(changes, Preprocessing) and changes.owner == OWNER


def _of_family(own: Preprocessing) -> Preprocessing:
    """Return the steps of a family of Keras: its own arithmetic, and then the resizing."""
    steps = [PreprocessingStep("pil_to_tensor"), _floats(scale=own.value_range == "0..1")]
    if own.channel_order == "BGR":
        steps.append(PreprocessingStep("reverse_channels"))
    if own.mean or own.std:
        mean, std = own.mean or (0.0,) * 3, own.std or (1.0,) * 3
        steps.append(PreprocessingStep("normalize", mean=mean, std=std))
    summary = replace(own, description="", antialias=False, owner=OWNER)
    return replace(summary, steps=(*steps, _resize_step(own.resize_pixels)))


def _of_tensors(crop_pixels: tuple[int, ...]) -> Preprocessing:
    """Return the steps of Keras's other networks, resized to the size of the crop."""
    sides = crop_pixels if len(crop_pixels) == 2 else crop_pixels * 2
    normalize = PreprocessingStep("normalize", mean=_MEAN, std=_STD)
    steps = (
        PreprocessingStep("pil_to_tensor"),
        _floats(scale=True),
        _resize_step(sides),
        normalize,
    )
    return replace(_PIL, resize_pixels=sides, crop_pixels=(), steps=steps)


def _floats(*, scale: bool) -> PreprocessingStep:
    return PreprocessingStep("convert_dtype", element_type="float32", scale=scale)


def _resize_step(pixels: tuple[int, ...]) -> PreprocessingStep:
    return PreprocessingStep("resize", pixels=pixels, interpolation="bilinear")
