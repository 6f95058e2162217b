"""Mutated images and Arrow streams: each is decoded, or refused as what it is."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from support.arrow_streams import features, stream
from support.fuzzing import Fuzz, fuzz
from support.tiff_files import tiled_tiff
from thingsvision_proto.wire import ColumnSpec, FeatureWriter, WireError
from thingsvision_server import webp
from thingsvision_server.errors import ImageError
from thingsvision_server.images import EncodedImage, ImageDecoder, ImageLimits
from thingsvision_server.inputs import Preprocessing
from thingsvision_server.sources.preprocessing.geometry import find_steps

__all__ = ["fuzz"]

# As servers do, see `ImageDecoder`: pytest makes errors of warnings.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

SIDE = 20
COLOURS = Pillow.fromarray(
    np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8), "RGB"
)


def saved(mode: str, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture = COLOURS.convert("L").convert("I;16") if mode == "I;16" else COLOURS.convert(mode)
    picture.save(file, kind, **options)
    return file.getvalue()


IMAGES = {
    "jpeg": [
        saved("RGB", "JPEG"),
        saved("L", "JPEG"),
        saved("CMYK", "JPEG"),
        saved("RGB", "JPEG", progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
        saved("RGB", "MPO", save_all=True, append_images=[COLOURS]),
    ],
    "png": [saved(mode, "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")],
    "tiff": [
        *(
            saved("RGB", "TIFF", compression=kind)
            for kind in ("raw", "jpeg", "tiff_lzw", "tiff_deflate", "packbits")
        ),
        saved("I;16", "TIFF"),
        saved("CMYK", "TIFF"),
        saved("1", "TIFF", compression="group4"),
        tiled_tiff(SIDE, 16),
    ],
    "webp": [
        saved("RGB", "WEBP"),
        saved("RGBA", "WEBP", lossless=True),
        saved("RGB", "WEBP", save_all=True, append_images=[Pillow.new("RGB", (SIDE, SIDE))]),
    ],
    "bmp and gif": [
        *(saved(mode, "BMP") for mode in ("RGB", "L", "1", "P")),
        saved("RGB", "DIB"),
        saved("P", "GIF"),
        saved("P", "GIF", save_all=True, append_images=[Pillow.new("P", (SIDE, SIDE))]),
    ],
}

DECODER = ImageDecoder(ImageLimits(2**20, 200_000))
STEPS = Preprocessing(resize_pixels=(32,), crop_pixels=(28, 28))


def decode(content: bytes) -> None:
    with suppress(ImageError):
        opened = DECODER.open(EncodedImage(0, "a", content), lambda size: find_steps(STEPS, size))
        pixels = opened.decode()
        assert pixels.mode == "RGB"
        assert pixels.width * pixels.height <= 200_000


@pytest.mark.parametrize("kind", IMAGES)
def test_a_mutated_image_is_decoded_or_refused(fuzz: Fuzz, kind: str) -> None:
    fuzz(kind, IMAGES[kind], 2_400, decode)


def test_a_mutated_large_webp_is_decoded_or_refused(
    fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webp, "_LARGE_PIXELS", 1)
    fuzz("large webp", IMAGES["webp"], 1_000, decode)


def written() -> bytes:
    writer = FeatureWriter([ColumnSpec("a", (2, 3)), ColumnSpec("b", (5,), "float64")])
    arrays = [np.zeros((4, 2, 3), np.float32), np.zeros((4, 5))]
    frames = [*writer.write(["a", "bc", "", "d"], arrays), *writer.finish()]
    return b"".join(b"".join(frame) for frame in frames)


STREAMS = [
    written(),
    stream(features(3, 4), features(1, 4)),
    stream(features(3, 4), use_legacy_format=True),
    stream(features(3, 4), compression="zstd"),
]


def read(content: bytes) -> None:
    from thingsvision_server.rpc.sent_features import SentFeatures

    reader = SentFeatures()
    with suppress(WireError):
        for start in range(0, len(content), 700):
            for names, arrays in reader.feed(content[start : start + 700]):
                assert all(len(array) == len(names) for array in arrays)
                assert sum(float(array.sum()) for array in arrays) is not None
        reader.finish()


def test_a_mutated_stream_is_read_or_refused(fuzz: Fuzz) -> None:
    fuzz("Arrow streams", STREAMS, 5_000, read)
