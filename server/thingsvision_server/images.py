"""Images of a request, and how their files are decoded to pixels with Pillow."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from .access.person import Person
from .errors import ImageError
from .webp import decode_large_webp, find_webp_size, is_large_still

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF")
"""Pillow's names of the accepted formats (a JPEG may be an MPO). EPS would run Ghostscript."""


@dataclass(frozen=True)
class EncodedImage:
    """One image as it arrived: its index in the request, the user's name for it, its file."""

    index: int
    name: str
    encoded: bytes
    keep_for: Person | None = None
    """Who sends the file to be cached; None: do not cache it."""


@dataclass(frozen=True)
class KeptImage:
    """One image that the server has cached, by the SHA-256 of its file."""

    index: int
    name: str
    sha256: bytes
    reader: Person | None = None
    """Who asks for it."""


@dataclass(frozen=True)
class ServerImage:
    """One image below the server's image root, by its path."""

    index: int
    name: str
    path: str
    reader: Person | None = None
    """Who asks for it."""


@dataclass(frozen=True)
class NoImage:
    """The place of an image that its sender can't read."""

    index: int
    name: str


@dataclass(frozen=True)
class ImageLimits:
    """The maximum size of an image."""

    max_bytes: int
    max_pixels: int


_CHANNEL_COUNTS = (1, 3)

_WIDE_MODES: Mapping[str, str] = {"F": "32-bit floating point", "I": "32-bit integers"}


_MOST_SCANS = 20
"""Scans of a JPEG with the most pixels; smaller ones may have more. Encoders write ten or so."""

_MOST_RESIZED = 2
"""Pixels of all images that resizing makes of one, in multiples of the most pixels of a file."""

_DECODED_BYTES, _WEBP_BYTES = 8, 16
"""Bytes per pixel of an image while it is decoded and converted, at most, as measured."""


@dataclass(frozen=True)
class StepSize:
    """The size of an image that a step of preprocessing makes, and what it takes per pixel."""

    width: int
    height: int
    pixel_bytes: int

    @property
    def byte_count(self) -> int:
        """Return the memory of the step, bytes."""
        return self.width * self.height * self.pixel_bytes


FindSteps = Callable[[tuple[int, int]], Iterable[StepSize]]
"""Returns the sizes of the images that preprocessing makes of an image of width x height."""


def _no_steps(_size: tuple[int, int]) -> Iterable[StepSize]:
    return ()


class OpenedImage:
    """An image whose header has been read, within limits; it can be decoded once."""

    def __init__(
        self, image: EncodedImage, needed_bytes: int, opened: PillowImage.Image | None
    ) -> None:
        self.image = image
        self.needed_bytes = needed_bytes
        """Memory until it is preprocessed."""
        self._opened = opened

    def decode(self) -> PillowImage.Image:
        """Return the image as Pillow's `convert('RGB')` does (the first of several frames).

        For 16-bit greyscale, takes the upper 8 bits, as Pillow does for 16-bit colours; its own
        conversion would make every value above 255 white. Wider pixels are rejected, because files
        don't define their range.
        """
        # Kept no longer than this call: decoders hold several times the pixels.
        opened, self._opened = self._opened, None
        try:
            if opened is None and is_large_still(self.image.encoded):
                return decode_large_webp(self.image.encoded)
            with opened or _open(self.image) as file:
                return _rgb(self.image, file)
        except _BROKEN as error:
            raise image_error(self.image, f"is broken: {error}") from error


_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError)
"""What Pillow's decoders raise for broken files."""


class ImageDecoder:
    """Decodes images to RGB within limits."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        # Pillow's own limit is per process and at first only warns; ours replaces it.
        PillowImage.MAX_IMAGE_PIXELS = None
        # It warns of each broken tag of a TIFF, and Python would remember every warning.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        PillowImage.init()

    def open(self, image: EncodedImage, find_steps: FindSteps = _no_steps) -> OpenedImage:
        """Read the header of an image, from which its cost is known; nothing is decoded.

        Raises ImageError if the image takes too long to decode, or if preprocessing would make it
        too large.
        """
        check_file_size(image, len(image.encoded), self._limits.max_bytes)
        # Pillow allocates the pixels of a WebP as it opens the file.
        size = find_webp_size(image.encoded)
        if size is not None:
            opened, pixels = None, self._check_pixels(image, size)
            pixel_bytes = _DECODED_BYTES if is_large_still(image.encoded) else _WEBP_BYTES
        else:
            opened = _open(image)
            size, pixel_bytes = opened.size, _DECODED_BYTES
            try:
                pixels = self._check_pixels(image, size, _tile_size(opened))
                self._check_scans(image, opened)
            except _BROKEN as error:
                raise image_error(image, f"is broken: {error}") from error
        resized_bytes = self._check_resized(image, size, list(find_steps(size)))
        return OpenedImage(image, pixels * pixel_bytes + resized_bytes, opened)

    def decode(self, image: EncodedImage) -> PillowImage.Image:
        """Return an image's pixels, as `open` and `OpenedImage.decode` do."""
        return self.open(image).decode()

    def _check_pixels(
        self, image: EncodedImage, size: tuple[int, int], tile: tuple[int, int] | None = None
    ) -> int:
        """Return how many pixels are decoded; a TIFF's tiles may be larger than the image."""
        width, height = size
        what = f"has {width} x {height} pixels"
        if tile is not None and min(tile) > 0:
            width, height = -(-width // tile[0]) * tile[0], -(-height // tile[1]) * tile[1]
            what += f" in tiles of {tile[0]} x {tile[1]}" if (width, height) != size else ""
        if width * height > self._limits.max_pixels:
            limit = f"this server accepts images of at most {self._limits.max_pixels:,} pixels"
            raise image_error(image, f"{what}; {limit}")
        return width * height

    def _check_scans(self, image: EncodedImage, opened: PillowImage.Image) -> None:
        pieces = _jpeg_count(opened)
        if not pieces:
            return
        scans, pixels = image.encoded.count(b"\xff\xda"), opened.width * opened.height
        if scans * pixels > _MOST_SCANS * self._limits.max_pixels * pieces:
            most = _MOST_SCANS * self._limits.max_pixels * pieces // pixels
            raise image_error(
                image,
                f"is a JPEG of {scans:,} scans, which take long to decode; at {opened.width} x "
                f"{opened.height} pixels this server accepts at most {most:,}; save it anew",
            )

    def _check_resized(
        self, image: EncodedImage, size: tuple[int, int], steps: list[StepSize]
    ) -> int:
        """Return how many bytes the steps take in all."""
        byte_count = sum(step.byte_count for step in steps)
        most = _MOST_RESIZED * self._limits.max_pixels
        if byte_count > most * _DECODED_BYTES:
            largest = max(steps, key=lambda step: step.byte_count)
            raise image_error(
                image,
                f"has {size[0]} x {size[1]} pixels, and would have {largest.width:,} x "
                f"{largest.height:,} when it is resized; this server makes at most {most:,} "
                "pixels: crop it",
            )
        return byte_count


def _open(image: EncodedImage) -> PillowImage.Image:
    try:
        return PillowImage.open(io.BytesIO(image.encoded), formats=FORMATS)
    except UnidentifiedImageError:
        raise image_error(image, _why_unknown(image.encoded)) from None
    except _BROKEN as error:
        raise image_error(image, f"is broken: {error}") from error


_TILE_WIDTH, _TILE_HEIGHT, _STRIPS, _TILES, _COMPRESSION = 322, 323, 273, 324, 259
"""Tags of TIFF."""

_JPEG_IN_TIFF = (6, 7)


def _tile_size(opened: PillowImage.Image) -> tuple[int, int] | None:
    """Return the width and height of a TIFF's tiles; None if the image has none."""
    tags = getattr(opened, "tag_v2", {})
    if opened.format != "TIFF" or _TILE_WIDTH not in tags or _TILE_HEIGHT not in tags:
        return None
    return int(tags[_TILE_WIDTH]), int(tags[_TILE_HEIGHT])


def _jpeg_count(opened: PillowImage.Image) -> int:
    """Return how many JPEGs an image consists of: a TIFF may have one for each strip or tile."""
    if opened.format in ("JPEG", "MPO"):
        return 1
    tags = getattr(opened, "tag_v2", {})
    if opened.format != "TIFF" or tags.get(_COMPRESSION) not in _JPEG_IN_TIFF:
        return 0
    return max(1, len(tags.get(_STRIPS, ())), len(tags.get(_TILES, ())))


def _rgb(image: EncodedImage, opened: PillowImage.Image) -> PillowImage.Image:
    if opened.mode.startswith("I;16"):
        upper = (np.asarray(opened) >> 8).astype(np.uint8)
        return PillowImage.fromarray(upper).convert("RGB")
    if opened.mode in _WIDE_MODES:
        what = f"has pixels of {_WIDE_MODES[opened.mode]}, whose range the file does not define"
        raise image_error(image, f"{what}; save it with 8 or 16 bits per channel")
    _allocate(opened)
    opened.load()
    if opened.mode == "RGB" and opened.format != "WEBP":
        return opened  # Pillow would copy it
    return opened.convert("RGB")  # opened WebP files hold three times the pixels


_PLAIN_FORMATS, _PLAIN_MODES = ("PNG", "JPEG"), ("L", "RGB", "RGBA")
"""Images whose pixels Pillow allocates as `_allocate` does, and nothing beside them."""

_LARGE_PIXELS = 2**22


def _allocate(opened: PillowImage.Image) -> None:
    """Allocate the black pixels that a large file is decoded onto.

    Pillow clears them with the interpreter's lock held, 0.2 s for 100 megapixels, in which no other
    call is answered; it enlarges an image without the lock.
    """
    is_plain = opened.format in _PLAIN_FORMATS and opened.mode in _PLAIN_MODES
    if is_plain and opened.width * opened.height > _LARGE_PIXELS:
        dot = PillowImage.new(opened.mode, (1, 1), (0,) * len(opened.mode))
        opened.im = dot.resize(opened.size, PillowImage.Resampling.NEAREST).im


def _why_unknown(encoded: bytes) -> str:
    if not encoded:
        return "is empty (0 bytes)"
    return "is not a JPEG, PNG, TIFF, WebP, BMP or GIF image, or its header is broken"


class NumberedItem(Protocol):
    """An item of a request: its index, and the user's name for it."""

    @property
    def index(self) -> int:
        """Its index in the request, from 0."""

    @property
    def name(self) -> str:
        """The user's name for it."""


def image_error(image: NumberedItem, what: str) -> ImageError:
    """Return an error that names one image and says what is wrong with it."""
    return ImageError(
        f"{_subject(image)}{what}",
        field=f"image[{image.index}]",
        subject=image.name,
    )


def check_file_size(image: NumberedItem, size_bytes: int, most_bytes: int) -> None:
    """Raise ImageError if an image's file is too large."""
    if size_bytes > most_bytes:
        limit = f"this server accepts images of at most {most_bytes:,} bytes"
        raise image_error(image, f"has {size_bytes:,} bytes; {limit}")


def fault_of(image: NumberedItem, error: ImageError) -> str:
    """Return what an error says is wrong with an image, without naming the image."""
    return str(error).removeprefix(_subject(image))


def _subject(image: NumberedItem) -> str:
    return f"image {image.index} ({image.name!r}) "


def uniform_images(shape: tuple[int, ...]) -> list[Any]:
    """Return a black and a white image of Pillow, as large as an input of that shape."""
    height, width = shape[1:] if shape[0] in _CHANNEL_COUNTS else shape[:2]
    return [PillowImage.new("RGB", (width, height), (level,) * 3) for level in (0, 255)]
