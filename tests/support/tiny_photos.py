"""Many small photographs, each another one: crops of real ones, in files of all sorts of names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write_tiny_photos(
    folder: Path, photos: Sequence[Path], count: int, *, first: int = 0, side: int = 48
) -> None:
    """Write that many crops of side x side pixels into the folder, numbered from `first`."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = [np.asarray(Image.open(photo).convert("RGB")) for photo in photos]
    for number in range(first, first + count):
        photo = pixels[number % len(pixels)]
        place = number // len(pixels)
        y = place * 7 % (photo.shape[0] - side)
        x = place * 11 % (photo.shape[1] - side)
        crop = photo[y : y + side, x : x + side].copy()
        crop[0, 0] = number >> 8, number & 255, 0  # dark corners are alike
        name = f"{number:05d} Straße 猫.bmp" if number % 3 else f"{number:05d}.bmp"
        Image.fromarray(crop).save(folder / name)
