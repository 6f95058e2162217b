"""Photographs as inputs of a network, prepared before the timer starts."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .cases import FeatureCase
from .networks import torch_transform

Array = npt.NDArray[Any]

KERAS_PIXELS = (224, 224)


def torch_inputs(case: FeatureCase) -> Array:
    """Return images, float32 [N, 3, 224, 224], preprocessed by the weights' own transforms."""
    transform = torch_transform(case.network)
    files = [Path(path).read_bytes() for path in case.images]
    known = {file: transform(_open(file)).numpy() for file in set(files)}  # many are copies
    images = [known[file] for file in files]
    # Stacking arrays with swapped axes keeps their memory format, which convolutions would follow.
    return np.ascontiguousarray(np.stack(images))


def keras_pixels(case: FeatureCase) -> Array:
    """Return pixels, float32 [N, 224, 224, 3], resized as `keras.utils.load_img` does."""
    bilinear = Image.Resampling.BILINEAR
    resized = [image.resize(KERAS_PIXELS, bilinear) for image in _open_images(case.images)]
    return np.stack([np.asarray(image, np.float32) for image in resized])


def batches(array: Array, size: int) -> Sequence[Array]:
    """Split an array into batches."""
    return [array[start : start + size] for start in range(0, len(array), size)]


def _open_images(paths: Sequence[str]) -> list[Image.Image]:
    return [_open(Path(path).read_bytes()) for path in paths]


def _open(file: bytes) -> Image.Image:
    return Image.open(BytesIO(file)).convert("RGB")
