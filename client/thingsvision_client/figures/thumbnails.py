"""Small pictures of images, for the axes of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calls.arguments import expand_home
from ..errors import ImageError, InvalidRequestError
from ..images.folder import image_names
from ..images.postscript import read_image
from ..labels import find_rows

Picture = npt.NDArray[np.uint8]


def thumbnail_files(
    thumbnails: str | Path | Sequence[str | Path], images: Sequence[str] | None, count: int
) -> list[Path]:
    """Return the picture file of each row.

    `thumbnails` is a file per row, or a folder that has the rows' names as files; without names,
    the images of the folder in their order. Raises InvalidRequestError.
    """
    is_folder = isinstance(thumbnails, (str, Path))
    if isinstance(thumbnails, (str, Path)):
        files = _files_in(Path(expand_home(thumbnails)), images)
    else:
        files = [Path(expand_home(file)) for file in thumbnails]
    if len(files) != count:
        advice = "; name the rows of the RDMs with `images`" if is_folder else ""
        raise InvalidRequestError(
            f"`thumbnails` must have a file per image ({count}), got {len(files)}{advice}."
        )
    if missing := [file for file in files if not file.is_file()]:
        raise InvalidRequestError(
            f"{len(missing)} thumbnails do not exist, such as {str(missing[0])!r}."
        )
    return files


def _files_in(root: Path, images: Sequence[str] | None) -> list[Path]:
    """Return the files of a folder by name; all of them in their order without names."""
    if images is None:
        return [root / name for name in image_names(root)]
    files = [root / name for name in images]
    if all(file.is_file() for file in files) or not root.is_dir():
        return files
    # Names may lack folders or endings, or begin with the folder itself.
    names = image_names(root)
    rows = find_rows(images, names)
    return files if rows is None else [root / names[row] for row in rows]


def thumbnail(file: Path, pixels: int) -> Picture:
    """Return a picture in a transparent square, pixels x pixels x RGBA, as large as fits.

    Raises ImageError for a file that is not an image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(read_image(file))) as opened:
            picture = _with_eight_bits(opened).convert("RGBA")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ImageError(f"{file} can't be drawn: {error}.", subject=str(file)) from error
    scale = pixels / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    square = Image.new("RGBA", (pixels, pixels))
    small = picture.resize(size, Image.Resampling.LANCZOS)
    square.paste(small, tuple((pixels - side) // 2 for side in size))
    return np.asarray(square)


def _with_eight_bits(picture: Any) -> Any:
    """Return 16-bit grey scaled to 8 bits; Pillow would clip it instead."""
    if not picture.mode.startswith("I"):
        return picture
    return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
