"""The preprocessing that THINGSvision gives a model made without pretrained weights."""

from __future__ import annotations

from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from ..values.records import ModelInfo

OWNER = "THINGSvision"
"""Owner of a preprocessing that is the library's, in provenance."""

_IMAGENET = Preprocessing(
    resize_pixels=(256,),
    interpolation="bilinear",
    crop_pixels=(224,),
    value_range="0..1",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    owner=OWNER,
)


def preprocessing_without_weights(model: ModelInfo | None) -> Preprocessing | None:
    """Return the library's preprocessing of a model; None stands for the model's own.

    The library has torchvision's classification networks only, and asks their weights for a
    preprocessing; without weights all of them get the same one, whatever they were trained with.
    """
    if model is not None and (model.source, model.task) == ("torchvision", "classification"):
        return _IMAGENET
    return None


def is_of_library(changes: PreprocessingOverrides | Preprocessing | None) -> bool:
    """Whether it is the library's preprocessing, with whatever sizes."""
    return isinstance(changes, Preprocessing) and changes.owner == OWNER
