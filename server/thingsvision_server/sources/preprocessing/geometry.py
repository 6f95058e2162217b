"""Makes torchvision's own resizing and centre-cropping steps from data.

torchvision is imported lazily, when a step is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...inputs import Preprocessing


def geometry_steps(preprocessing: Preprocessing) -> Iterator[Any]:
    """Yield the steps that the data ask for, each from a Pillow image to a Pillow image."""
    from torchvision import transforms

    if resize := preprocessing.resize_pixels:
        yield transforms.Resize(
            resize[0] if len(resize) == 1 else list(resize),
            interpolation=transforms.InterpolationMode(preprocessing.interpolation),
            antialias=preprocessing.antialias,
        )
    if crop := preprocessing.crop_pixels:
        yield transforms.CenterCrop(height_and_width(crop))


def height_and_width(size: tuple[int, ...]) -> tuple[int, ...]:
    """Return a size as two numbers; a single number is the side of a square."""
    return size if len(size) == 2 else size * 2
