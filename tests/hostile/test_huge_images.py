"""Images whose header announces much more work than their bytes: refused, or done one by one."""

from __future__ import annotations

import asyncio
import io
import threading
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image as Pillow

from hostile.attacks.images import encoded, with_scans
from support.serving import TestServer
from support.stock_calls import extraction, image, stock_calls
from support.tiff_files import tiled_tiff
from thingsvision_client import Client
from thingsvision_client.errors import ImageError
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server import images, webp
from thingsvision_server.engine.byte_room import ByteRoom
from thingsvision_server.errors import ImageError as ServerImageError
from thingsvision_server.errors import InvalidRequestError
from thingsvision_server.images import EncodedImage, ImageDecoder, ImageLimits
from thingsvision_server.inputs import Preprocessing, PreprocessingStep
from thingsvision_server.sources.preprocessing.geometry import find_steps
from thingsvision_server.sources.preprocessing.steps import StepsTransform
from thingsvision_server.webp import find_webp_size, is_large_still

MODEL = "torchvision/squeezenet1_1@random:0"
MIB = 1024 * 1024
_PNG_HEADER_BYTES = 41


@pytest.mark.parametrize("size", [(1, 8_000), (8_000, 1), (1, 20_000_000)])
def test_an_image_that_resizing_would_make_huge_is_refused(
    server: TestServer, size: tuple[int, int]
) -> None:
    with Client(server.address) as client, pytest.raises(ImageError) as caught:
        client.extract(MODEL, [("thin", encoded(Pillow.new("1", size)))], "features.0")
    long_side = max(size)
    assert f"{long_side} pixels" in str(caught.value) or f"{long_side} x 1 pixels" in str(
        caught.value
    )
    assert "crop it" in str(caught.value)


@pytest.mark.parametrize("size", [(400, 8_000), (12_000, 1_000), (30, 9_000)])
def test_a_panorama_is_accepted(server: TestServer, size: tuple[int, int]) -> None:
    with Client(server.address) as client:
        found = client.extract(MODEL, [("wide", encoded(Pillow.new("L", size)))], "features.0")
    assert found.features["features.0"].shape[0] == 1


def test_a_jpeg_of_hundreds_of_scans_is_refused() -> None:
    decoder = ImageDecoder(ImageLimits(64 * MIB, 1_000_000))
    with pytest.raises(Exception, match=r"is a JPEG of 309 scans, .* accepts at most 20; save it"):
        decoder.decode(EncodedImage(0, "slow", with_scans(300, 1_000)))
    # A small one costs little, whatever its number of scans.
    assert decoder.decode(EncodedImage(0, "small", with_scans(300, 32))).size == (32, 32)


def test_an_images_memory_is_known_from_its_header() -> None:
    decoder = ImageDecoder(ImageLimits(64 * MIB, 100_000_000))
    side_256 = partial(find_steps, Preprocessing(resize_pixels=(256,), crop_pixels=(224, 224)))
    for kind, pixel_bytes in {"PNG": 8, "WEBP": 16}.items():
        picture = encoded(Pillow.new("L", (300, 600)), kind)
        opened = decoder.open(EncodedImage(0, "a", picture), side_256)
        resized = 8 * (256 * 512 + 256 * 512 + 224 * 224)
        assert opened.needed_bytes == pixel_bytes * 300 * 600 + resized


@pytest.mark.parametrize(
    "options",
    [{"lossless": True}, {"quality": 50}, {"exif": b"Exif"}, {"save_all": True}],
    ids=["lossless", "lossy", "extended", "animated"],
)
def test_the_size_of_a_webp_is_known_without_opening_it(options: dict[str, Any]) -> None:
    if "save_all" in options:
        options = options | {"append_images": [Pillow.new("RGB", (4_000, 30), "red")]}
    picture = encoded(Pillow.new("RGBA", (4_000, 30), "#12345678"), "WEBP", **options)
    assert find_webp_size(picture) == (4_000, 30)
    assert ImageDecoder(ImageLimits(MIB, 10**6)).decode(EncodedImage(0, "a", picture)).size == (
        4_000,
        30,
    )


@pytest.mark.parametrize(
    "options",
    [{"lossless": True}, {"quality": 20, "method": 0}, {"quality": 20, "exif": b"Exif"}],
    ids=["lossless", "lossy", "extended"],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_large_webp_has_the_pixels_that_pillow_decodes(
    mode: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webp, "_LARGE_PIXELS", 1_000)
    random = np.random.default_rng(0).integers(0, 256, (71, 83, 4), np.uint8)
    picture = encoded(Pillow.fromarray(random).convert(mode), "WEBP", **options)
    assert is_large_still(picture)
    decoder = ImageDecoder(ImageLimits(64 * MIB, 1_000_000))
    expected = Pillow.open(io.BytesIO(picture)).convert("RGB")
    opened = decoder.open(EncodedImage(0, "a", picture))
    assert opened.needed_bytes == 8 * 71 * 83
    assert opened.decode().tobytes() == expected.tobytes()
    with pytest.raises(ServerImageError, match="is broken: its pixels can't be decoded"):
        decoder.decode(EncodedImage(0, "a", picture[:-2_000]))


def test_frames_of_a_large_webp_are_decoded_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webp, "_LARGE_PIXELS", 1_000)
    frames = [Pillow.new("RGB", (90, 80), "red"), Pillow.new("RGB", (90, 80), "blue")]
    picture = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    assert not is_large_still(picture)
    decoded = ImageDecoder(ImageLimits(MIB, 10**6)).decode(EncodedImage(0, "a", picture))
    assert decoded.tobytes() == Pillow.open(io.BytesIO(picture)).convert("RGB").tobytes()


STEPS = {
    "pads": [PreprocessingStep("pad", (4096,))] * 3,
    "resizes": [PreprocessingStep("resize", (4096, 4096))] * 12,
    "resizes of tensors": [
        PreprocessingStep("to_tensor"),
        *[PreprocessingStep("resize", (4096, 4096))] * 3,
    ],
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_steps_that_make_gigabytes_are_refused(steps: list[PreprocessingStep]) -> None:
    with pytest.raises(InvalidRequestError, match="must make images that take at most"):
        StepsTransform(steps, channels_last=False)


SIZES = [(97, 97), (40, 100), (300, 50)]


@pytest.mark.parametrize("size", SIZES)
def test_the_sizes_of_steps_are_torchvisions(size: tuple[int, int]) -> None:
    fill = (0.0,)
    steps = [
        PreprocessingStep("resize", (60,), antialias=True),
        PreprocessingStep("resize", (80,), 90, antialias=True),
        PreprocessingStep("pad", (3,), fill=fill),
        PreprocessingStep("pad", (3, 4), fill=fill),
        PreprocessingStep("pad", (3, 4, 5, 6), fill=fill),
        PreprocessingStep("resize", (), 70, antialias=True, is_v2=True),
        PreprocessingStep("center_crop", (50, 120)),
        PreprocessingStep("resize", (30, 40), antialias=True),
    ]
    for count in range(1, len(steps) + 1):
        done: Any = Pillow.new("RGB", size)
        for step in StepsTransform(steps[:count], channels_last=False)._steps:
            done = step(done)
        last = list(find_steps(Preprocessing(steps=tuple(steps[:count])), size))[-1]
        assert (last.width, last.height) == done.size


def test_a_thin_image_is_refused_before_steps_resize_it(server: TestServer) -> None:
    steps = [
        pb.PreprocessingStep(kind="resize", pixels=[4096], antialias=True),
        pb.PreprocessingStep(kind="to_tensor"),
    ]
    header = extraction("features.0", preprocessing=pb.Preprocessing(steps=steps))
    with stock_calls(server.address) as stock:
        thin = encoded(Pillow.new("1", (1, 8_000)))
        refusal = stock.refusal("Extract", [header, image(0, "thin", thin)])
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "would have 4,096 x 32,768,000 when it is resized" in refusal.sentence


def test_the_tiles_of_a_tiff_count() -> None:
    decoder = ImageDecoder(ImageLimits(64 * MIB, 1_000_000))
    with pytest.raises(ServerImageError, match="has 64 x 64 pixels in tiles of 2000 x 2000; this"):
        decoder.open(EncodedImage(0, "tiles", tiled_tiff(64, 2_000)))
    assert decoder.decode(EncodedImage(0, "tiles", tiled_tiff(64, 48))).size == (64, 64)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "tiff_deflate", "raw"])
def test_a_tiff_is_decoded(compression: str) -> None:
    decoder = ImageDecoder(ImageLimits(64 * MIB, 1_000_000))
    for size in (10, 400):
        picture = encoded(Pillow.new("RGB", (size, size)), "TIFF", compression=compression)
        assert decoder.decode(EncodedImage(0, "a", picture)).size == (size, size)


def test_broken_tags_are_not_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    warnings.resetwarnings()
    decoder = ImageDecoder(ImageLimits(64 * MIB, 1_000_000))
    decoder.decode(EncodedImage(0, "tags", tiled_tiff(64, 48, [(1_000, 7, 2**20, 8)] * 9)))
    assert not recwarn.list


def test_images_that_nobody_waits_for_leave_a_thread_to_others(
    server: TestServer, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = encoded(Pillow.new("L", (7_000, 7_000)))
    begun, over = threading.Semaphore(0), threading.Event()

    class Slow(io.BytesIO):
        """A file whose pixels take long to read."""

        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= _PNG_HEADER_BYTES:
                begun.release()
                over.wait(60)
            return super().read(size)

    def open_file(content: bytes) -> io.BytesIO:
        return Slow(content) if content == heavy else io.BytesIO(content)

    monkeypatch.setattr(images, "io", SimpleNamespace(BytesIO=open_file))
    requests = [extraction("features.0"), image(0, "heavy", heavy)]
    with stock_calls(server.address) as stock, Client(server.address, timeout=50) as client:
        try:
            for seconds in (20, 1):  # a thread takes the first, and no other takes the second
                call = stock.start("Extract", requests)
                begun.acquire(timeout=seconds)
                call.cancel()
                assert call.code() == grpc.StatusCode.CANCELLED
            assert client.extract(MODEL, photos[:1], "features.0").features["features.0"].any()
        finally:
            over.set()


def test_an_rgb_image_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = ImageDecoder(ImageLimits(64 * MIB, 1_000_000))
    picture = Pillow.effect_noise((40, 30), 60).convert("RGB")
    monkeypatch.setattr(Pillow.Image, "copy", None)
    for kind in ("PNG", "TIFF", "BMP"):
        decoded = decoder.decode(EncodedImage(0, "a", encoded(picture, kind)))
        assert decoded.tobytes() == picture.tobytes()


def test_room_is_never_exceeded_and_larger_work_is_done_alone() -> None:
    async def work(room: ByteRoom, need: int) -> None:
        async with room.take(need):
            assert 0 < room.taken_bytes <= 10
            await asyncio.sleep(0)

    async def work_all() -> None:
        room, needs = ByteRoom(10), np.random.default_rng(0).integers(1, 14, 40)
        tasks = [asyncio.create_task(work(room, int(need))) for need in needs]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.wait(tasks)
        assert room.taken_bytes == 0
        assert not any(task.exception() for task in tasks if not task.cancelled())

    asyncio.run(work_all())


def test_who_leaves_gives_way_at_once() -> None:
    async def leave() -> None:
        room = ByteRoom(10)
        async with room.take(6):
            large = asyncio.create_task(room.acquire(8))
            small = asyncio.create_task(room.acquire(2))
            await asyncio.sleep(0.01)
            assert not small.done()  # in order of arrival
            large.cancel()
            await asyncio.wait_for(small, 1)

    asyncio.run(leave())
