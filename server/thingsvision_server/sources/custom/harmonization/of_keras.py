"""The networks of the family that are classes of `keras.applications`."""

from __future__ import annotations

from collections.abc import Mapping

from ...context import SourceContext
from ...keras.classes import KerasModel, KerasSource
from .shared import FAMILY, PREPROCESSING, TAG, weights_at

_NETWORKS: Mapping[str, tuple[str, str]] = {
    "ResNet50": ("ResNet50V2", "resnet50v2_harmonized"),
    "VGG16": ("VGG16", "vgg16_harmonized"),
}
"""For each network: its class in `keras.applications`, and its file."""


def open_source(context: SourceContext) -> KerasSource:
    """Open this part of the family."""
    models = {f"{FAMILY}{name}": _model(*row) for name, row in _NETWORKS.items()}
    return KerasSource("custom", models, context)


def _model(application: str, file: str) -> KerasModel:
    return KerasModel(
        "keras",
        application,
        tag=TAG,
        published=weights_at(file),
        preprocessing=PREPROCESSING,
        options=(("classifier_activation", None),),
    )
