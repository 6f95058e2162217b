"""The shape of the inputs that a preprocessing gives, if it is the same for all images."""

from __future__ import annotations

from .preprocessing import Preprocessing
from .preprocessing_step import PreprocessingStep


def shape_of_inputs(preprocessing: Preprocessing) -> tuple[int, int, int] | None:
    """Return channels, height and width of each input; None if they depend on the image.

    A shorter side alone is taken as the side of a square.
    """
    steps = preprocessing.steps
    sides = (
        _after(steps) if steps else _pair(preprocessing.crop_pixels or preprocessing.resize_pixels)
    )
    if sides is None:
        return None
    grey = [step.channel_count for step in steps if step.kind == "grayscale"]
    return (grey[-1] if grey else 3, *sides)


def _pair(pixels: tuple[int, ...]) -> tuple[int, int] | None:
    return (pixels[0], pixels[-1]) if pixels else None


def _after(steps: tuple[PreprocessingStep, ...]) -> tuple[int, int] | None:
    sides: tuple[int, int] | None = None
    for step in steps:
        if step.kind == "center_crop" or (step.kind == "resize" and len(step.pixels) == 2):
            sides = _pair(step.pixels)
        elif step.kind == "resize":
            sides = _resize_sides(step, sides)
        elif step.kind == "pad" and sides is not None:
            left, top, right, bottom = step.pixels
            sides = sides[0] + top + bottom, sides[1] + left + right
    return sides


def _resize_sides(step: PreprocessingStep, sides: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return the sides after the shorter one was resized, as torchvision rounds the longer one."""
    if not step.pixels or step.longest_pixels:
        return None
    shorter = step.pixels[0]
    if sides is None:
        return shorter, shorter
    height, width = sides
    if height <= width:
        return shorter, int(shorter * width / height)
    return int(shorter * height / width), shorter
