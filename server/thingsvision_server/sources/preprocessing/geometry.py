"""Makes torchvision's own resizing and centre-cropping steps from data, and says what they cost.

torchvision is imported lazily, when a step is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...images import StepSize
from ...inputs import Preprocessing, PreprocessingStep

_PILLOW_BYTES, _TENSOR_BYTES = 8, 40
"""Bytes per pixel that a step takes, at most, from an image of Pillow and from a tensor."""


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


def find_steps(preprocessing: Preprocessing, size: tuple[int, int]) -> Iterator[StepSize]:
    """Yield the sizes of the images that the steps make of an image of width x height."""
    steps = preprocessing.steps or tuple(_steps_of_fields(preprocessing))
    pixel_bytes = _PILLOW_BYTES
    for step in steps:
        if step.kind == "resize":
            size = _resized(size, step)
        elif step.kind == "center_crop" and step.pixels:
            height, width = height_and_width(step.pixels)[:2]
            # A smaller image is padded first.
            yield StepSize(max(size[0], width), max(size[1], height), pixel_bytes)
            size = width, height
        elif step.kind == "pad":
            size = _padded(size, step.pixels)
        elif step.kind in ("to_tensor", "pil_to_tensor"):
            pixel_bytes = _TENSOR_BYTES
        elif step.kind == "to_pil_image":
            pixel_bytes = _PILLOW_BYTES
        yield StepSize(*size, pixel_bytes)


def _steps_of_fields(preprocessing: Preprocessing) -> Iterator[PreprocessingStep]:
    if preprocessing.resize_pixels:
        yield PreprocessingStep("resize", preprocessing.resize_pixels)
    if preprocessing.crop_pixels:
        yield PreprocessingStep("center_crop", preprocessing.crop_pixels)


def _resized(size: tuple[int, int], step: PreprocessingStep) -> tuple[int, int]:
    if len(step.pixels) == 2:
        return step.pixels[1], step.pixels[0]
    short, long = max(1, min(size)), max(size)
    if not step.pixels:
        short, long = step.longest_pixels * short // max(1, long), step.longest_pixels
    else:
        short, long = step.pixels[0], step.pixels[0] * long // short
        if 0 < step.longest_pixels < long:
            short, long = step.longest_pixels * short // long, step.longest_pixels
    return (short, long) if size[0] <= size[1] else (long, short)


def _padded(size: tuple[int, int], pixels: tuple[int, ...]) -> tuple[int, int]:
    """Return a size with padding: of all sides, of left and right and of others, or of each."""
    if len(pixels) == 4:
        return size[0] + pixels[0] + pixels[2], size[1] + pixels[1] + pixels[3]
    width, height = (pixels * 2 if len(pixels) == 1 else pixels[:2]) or (0, 0)
    return size[0] + 2 * width, size[1] + 2 * height
