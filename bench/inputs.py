"""Photographs as a network's inputs, made before the time runs; knows no column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .cases import FeatureCase
from .networks import torch_transform

Array = npt.NDArray[Any]

KERAS_PIXELS = (224, 224)


def torch_inputs(case: FeatureCase) -> Array:
    """Return images x 3 x 224 x 224, float32, as the weights' own transforms make them."""
    transform = torch_transform(case.network)
    images = [transform(image).numpy() for image in _opened(case.images)]
    # A stack of arrays whose axes were swapped has them swapped: convolutions would follow it.
    return np.ascontiguousarray(np.stack(images))


def keras_pixels(case: FeatureCase) -> Array:
    """Return images x 224 x 224 x 3 pixels, float32, resized as `keras.utils.load_img` does."""
    bilinear = Image.Resampling.BILINEAR
    resized = [image.resize(KERAS_PIXELS, bilinear) for image in _opened(case.images)]
    return np.stack([np.asarray(image, np.float32) for image in resized])


def batches(array: Array, size: int) -> Sequence[Array]:
    """Cut an array into batches."""
    return [array[start : start + size] for start in range(0, len(array), size)]


def _opened(paths: Sequence[str]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in paths]
