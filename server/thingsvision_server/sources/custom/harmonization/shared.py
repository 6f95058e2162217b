"""The name prefix, tag, preprocessing and weight locations shared by all networks of the family."""

from __future__ import annotations

from ....inputs import Preprocessing
from ...weights.folder import PublishedWeights

FAMILY = "Harmonization/"

TAG = "clickme"
"""The data set of where people look, on which the networks were trained in addition to ImageNet."""

PREPROCESSING = Preprocessing(
    resize_pixels=(224, 224),
    interpolation="bilinear",
    antialias=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

_SITE = "https://storage.googleapis.com/serrelab/prj_harmonization/models"


def weights_at(file: str, cached_as: str = "") -> PublishedWeights:
    """Return a file's location; it is cached under its authors' name for it, without a suffix."""
    return PublishedWeights(f"{_SITE}/{file}.h5", cached_as=cached_as or file, library="keras")
