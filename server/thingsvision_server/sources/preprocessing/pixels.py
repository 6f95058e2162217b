"""The last steps of common transforms, from pixels to normalised values, in a single buffer.

torchvision's own steps make five arrays per image; these make one, with the same operations on
the same values in the same order, so the result is bit-identical.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torchvision import transforms
from torchvision.transforms._presets import ImageClassification

Transform = Callable[[Any], torch.Tensor]
"""From a Pillow RGB image to 3 x H x W, float32."""


class NormalizedPixels:
    """`ToTensor` followed by `Normalize`: from a Pillow RGB image to 3 x H x W, float32."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self._mean, self._std = (_per_channel(values) for values in (mean, std))

    def __call__(self, image: Any, place: torch.Tensor | None = None) -> torch.Tensor:
        """Return the values of an image, in `place` if that has their shape."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        fits = place is not None and place.shape == pixels.shape
        values = place if place is not None and fits else torch.empty(pixels.shape)
        return values.copy_(pixels).div_(255).sub_(self._mean).div_(self._std)


def in_one_buffer(reference: Transform) -> Transform:
    """Return a faster, bit-identical version of a transform of Pillow RGB images.

    If its last steps are not the common ones, return the transform itself.
    """
    *others, to_tensor, normalize = [None, None, *_steps(reference)]
    if isinstance(to_tensor, transforms.ToTensor) and type(normalize) is transforms.Normalize:
        values = NormalizedPixels(normalize.mean, normalize.std)
        faster: Transform = transforms.Compose([*filter(None, others), values])
        return faster
    return reference


def in_place(quick: Transform) -> Callable[[Any, Any], torch.Tensor] | None:
    """Return a transform of `in_one_buffer` that writes into an array; None if it can't.

    The array is float32; if it does not have the shape of the values, they are elsewhere.
    """
    *others, values = [None, *_steps(quick)]
    if not isinstance(values, NormalizedPixels):
        return None
    first = transforms.Compose([*filter(None, others)])
    return lambda image, place: values(first(image), torch.from_numpy(place))


def _steps(reference: Any) -> list[Any]:
    if type(reference) is transforms.Compose:
        return list(reference.transforms)
    if type(reference) is not ImageClassification:
        return []
    resize, crop = reference.resize_size, reference.crop_size
    return [
        transforms.Resize(resize, reference.interpolation, antialias=reference.antialias),
        transforms.CenterCrop(crop * 2 if len(crop) == 1 else crop),
        transforms.ToTensor(),
        transforms.Normalize(reference.mean, reference.std),
    ]


def _per_channel(values: Sequence[float]) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float32).view(-1, 1, 1)
