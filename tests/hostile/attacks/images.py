"""Images whose header announces much more work than their bytes."""

from __future__ import annotations

import io
import struct
import time
import zlib

import grpc
import pytest
from PIL import Image as Pillow

from support.stock_calls import extraction, image, stock_calls
from support.tiff_files import tiled_tiff
from thingsvision_client import Client
from thingsvision_client.errors import ImageError
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from .registry import MODEL, MODULE, Target, attack


def encoded(picture: Pillow.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def with_scans(count: int, side: int) -> bytes:
    """Return a progressive JPEG with its last scan repeated; decoders read all of them."""
    whole = encoded(Pillow.new("RGB", (side, side)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


@attack()
def thin_images(target: Target) -> None:
    """Send images of 1 x 8,000 and 8,000 x 1 pixels, whose resize would take GB."""
    for size in [(1, 8_000), (8_000, 1)]:
        with Client(target.address) as client, pytest.raises(ImageError):
            client.extract(MODEL, [("thin", encoded(Pillow.new("1", size)))], MODULE)


@attack()
def a_jpeg_of_many_scans(target: Target) -> None:
    """Send a progressive JPEG with 300 scans, each of which is decoded."""
    with Client(target.address) as client, pytest.raises(ImageError):
        client.extract(MODEL, [("slow", with_scans(300, 5_000))], MODULE)


@attack()
def a_webp_of_34_bytes(target: Target) -> None:
    """Send WebP files of 34 bytes with 16,383 x 6,000 pixels."""
    file = wide_webp(16_383, 6_000)
    assert len(file) == 34
    _extract(target, [file] * 4)


@attack()
def a_png_of_100_megapixels(target: Target) -> None:
    """Send RGBA PNGs of 10,000 x 10,000 pixels."""
    _extract(target, [rgba_png(10_000)] * 3)


@attack()
def images_that_nobody_waits_for(target: Target) -> None:
    """Send 40 images of 98 megapixels in each of four calls, and leave after a second."""
    file = wide_webp(16_383, 6_000)
    requests = [extraction(MODULE), *(image(n, str(n), file) for n in range(40))]
    with stock_calls(target.address) as stock:
        calls = [stock.start("Extract", requests) for _ in range(4)]
        time.sleep(1)
        for call in calls:
            call.cancel()
        assert {call.code() for call in calls} == {grpc.StatusCode.CANCELLED}


@attack()
def tiles_larger_than_their_image(target: Target) -> None:
    """Send a TIFF of 64 x 64 pixels in a tile of 400 megapixels."""
    with Client(target.address) as client, pytest.raises(ImageError):
        client.extract(MODEL, [("tiles", tiled_tiff(64, 20_000))], MODULE)


@attack()
def steps_that_make_gigabytes(target: Target) -> None:
    """Ask for a preprocessing that pads an image to 60 gigapixels."""
    steps = [pb.PreprocessingStep(kind="pad", pixels=[4096]) for _ in range(30)]
    header = extraction(MODULE, preprocessing=pb.Preprocessing(steps=steps))
    with stock_calls(target.address) as stock:
        refusal = stock.refusal("Extract", [header])
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT, refusal


@attack()
def many_large_files(target: Target) -> None:
    """Send 12 files of 60 MB each, which are not images."""
    content = bytes(60_000_000)
    with stock_calls(target.address) as stock:
        requests = (
            extraction(MODULE, skip_bad_images=True) if n < 0 else image(n, str(n), content)
            for n in range(-1, 12)
        )
        skipped = [reply for reply in stock.call("Extract", requests) if reply.HasField("skipped")]
    assert skipped


def wide_webp(width: int, height: int) -> bytes:
    """Return a WebP of one colour, as large as wanted: its pixels take no bits."""
    file = bytearray(encoded(Pillow.new("RGB", (1, 1)), "WEBP", lossless=True))
    start = file.index(b"\x2f") + 1
    bits = int.from_bytes(file[start : start + 4], "little")
    bits |= (width - 1) | (height - 1) << 14
    file[start : start + 4] = bits.to_bytes(4, "little")
    return bytes(file)


def rgba_png(side: int) -> bytes:
    """Return a transparent PNG, packed row by row."""
    packer = zlib.compressobj(1)
    rows = b"".join([*(packer.compress(bytes(1 + 4 * side)) for _ in range(side)), packer.flush()])
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + _checksum(kind + content)
        for kind, content in chunks
    )


def _checksum(content: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(content))


def _extract(target: Target, files: list[bytes]) -> None:
    with Client(target.address) as client:
        named = [(str(number), file) for number, file in enumerate(files)]
        rows = client.extract(MODEL, named, MODULE).features[MODULE]
    assert len(rows) == len(files)
