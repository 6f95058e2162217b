"""The family `Harmonization/...` of the source `custom`: networks trained to look where people do.

Their files hold weights of classes of `keras.applications`, or of networks of other libraries,
which are refused (Fel et al. 2022, "Harmonizing the object recognition strategies of deep neural
networks with humans").
"""

from __future__ import annotations

from collections.abc import Mapping

from ...inputs import Preprocessing
from ..context import SourceContext
from ..weights import PublishedWeights
from .classes import KerasModel, KerasSource

_FAMILY = "Harmonization/"
_TAG = "clickme"
"""The data set of where people look, on which the networks were trained beside ImageNet."""

_FILES = "https://storage.googleapis.com/serrelab/prj_harmonization/models"
_PREPROCESSING = Preprocessing(
    resize_pixels=(224, 224),
    interpolation="bilinear",
    antialias=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

_NETWORKS: Mapping[str, tuple[str, str]] = {
    "ResNet50": ("ResNet50V2", "resnet50v2_harmonized"),
    "VGG16": ("VGG16", "vgg16_harmonized"),
}
"""Name of a network: its class in `keras.applications`, and its file."""

_OTHER_LIBRARIES: Mapping[str, str] = {
    "EfficientNetB0": "the package efficientnet, which normalises outside of the network",
    "LeViT_small": "the package keras_cv_attention_models",
    "ViT_B16": "the package vit_keras",
    "tiny_ConvNeXT": "the package keras_cv_attention_models",
    "tiny_MaxViT": "the package keras_cv_attention_models",
}

REFUSED: Mapping[str, str] = {
    f"{_FAMILY}{name}": (
        f"Its file holds the layers of {origin}; no library of this server has such a network. "
        f"Of this family there are {', '.join(_FAMILY + one for one in _NETWORKS)}."
    )
    for name, origin in _OTHER_LIBRARIES.items()
}
"""Names of networks that were published, and why they are not here."""


def open_source(context: SourceContext) -> KerasSource:
    """Open the family."""
    models = {f"{_FAMILY}{name}": _model(*one) for name, one in _NETWORKS.items()}
    return KerasSource("custom", models, context)


def _model(application: str, file: str) -> KerasModel:
    # Keras' cache has it without a suffix, as its authors' package asks for it.
    published = PublishedWeights(f"{_FILES}/{file}.h5", cached_as=file, library="keras")
    return KerasModel(
        "keras",
        application,
        _TAG,
        published,
        _PREPROCESSING,
        options=(("classifier_activation", None),),
    )
