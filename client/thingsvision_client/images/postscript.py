"""Draws EPS figures on the user's machine, since a server runs no PostScript."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path

from ..errors import InvalidRequestError, MissingDependencyError

_SUFFIX = ".eps"
_NEEDS = "is EPS, which is drawn on this machine by Ghostscript through Pillow:"
_OR_PNG = "or convert it to PNG"


def read_image(path: Path) -> bytes:
    """Return the bytes of an image file; an EPS figure is converted to a PNG of RGB pixels.

    A figure is drawn as in THINGSvision: a pixel per point of its bounding box, on white. Raises
    OSError, MissingDependencyError without Pillow or Ghostscript, and InvalidRequestError if it
    can't be drawn.
    """
    return _draw(path) if path.suffix.lower() == _SUFFIX else path.read_bytes()


def _draw(path: Path) -> bytes:
    try:
        from PIL import EpsImagePlugin, Image
    except ImportError as error:
        extra = "pip install 'thingsvision-service[eps]'"
        raise MissingDependencyError(f"{path.name!r} {_NEEDS} {extra}, {_OR_PNG}.") from error
    if not EpsImagePlugin.has_ghostscript():
        raise MissingDependencyError(
            f"{path.name!r} {_NEEDS} install Ghostscript (its program gs), {_OR_PNG}."
        )
    png = BytesIO()
    try:
        with Image.open(path, formats=["EPS"]) as figure:
            figure.convert("RGB").save(png, "PNG", compress_level=1)
    except subprocess.CalledProcessError as error:
        raise InvalidRequestError(f"can't be drawn: Ghostscript failed with {error}") from error
    return png.getvalue()
