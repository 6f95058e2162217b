"""Rows of decoding: what the cores can do, and what the device would do instead, with its error.

The service decodes on the cores. Whether decoding and resizing on a GPU is worth other pixels is
for these figures to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.functional import InterpolationMode, resize

from thingsvision_server.engine.extractor import Extractor
from thingsvision_server.engine.planning import ExtractSpec
from thingsvision_server.images import EncodedImage
from thingsvision_server.inputs import InputTransform, RequestItem

from ..engine import Engine, engine_key
from ..networks import SEEDED
from .stage import Result, Results, Stage

_NETWORK = "alexnet"
_STREAMS = 64
"""Images in preparation at a time; more than there are threads."""
_SIDE = 256
_BATCH = 64
_JPEGS = {".jpg", ".jpeg"}


def measure(stage: Stage) -> Results:
    """Measure the server's preparation on all cores, then JPEGs and resizing on the device."""
    paths = [Path(path) for path in stage.images(stage.sizes.decoded)]
    files = [path.read_bytes() for path in paths]
    yield _on_cores(stage, files)
    jpegs = [file for path, file in zip(paths, files, strict=True) if path.suffix in _JPEGS]
    yield _jpegs_on_device(stage, jpegs or files)
    yield _measure_resizing(stage, files)


def _on_cores(stage: Stage, files: Sequence[bytes]) -> Result:
    engine = Engine()
    try:
        extractor = engine.open(str(stage.weights_dir), stage.device)
        spec = ExtractSpec(engine_key(f"torchvision/{_NETWORK}@{SEEDED}"), ())
        transform = engine.run(extractor.input_transform(spec))
        found, throughput = _repeat(
            stage, len(files), lambda: engine.run(_prepare_all(extractor, transform, files))
        )
    finally:
        engine.close()
    return {
        "row": "decode, resize and normalise on the cores",
        "ok": sum(found) == len(files),
        "images_per_s": throughput,
        "mean_file_bytes": round(sum(map(len, files)) / len(files)),
    }


async def _prepare_all(
    extractor: Extractor, transform: InputTransform, files: Sequence[bytes]
) -> list[int]:
    """Prepare all images, many at a time; return how many each stream gave."""

    async def items(part: Sequence[bytes]) -> AsyncIterator[RequestItem]:
        for index, file in enumerate(part):
            yield EncodedImage(index, str(index), file)

    async def count(part: Sequence[bytes]) -> int:
        async with aclosing(extractor.inputs(transform, items(part))) as inputs:
            return len([one.shape async for one in inputs])

    return await asyncio.gather(*(count(files[start::_STREAMS]) for start in range(_STREAMS)))


def _jpegs_on_device(stage: Stage, files: Sequence[bytes]) -> Result:
    encoded = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]

    def decode() -> list[torch.Tensor]:
        parts = [encoded[start : start + _BATCH] for start in range(0, len(encoded), _BATCH)]
        decoded = [
            one
            for part in parts
            for one in decode_jpeg(part, mode=ImageReadMode.RGB, device=stage.device)
        ]
        _wait(stage)
        return decoded

    decoded, throughput = _repeat(stage, len(files), decode)
    apart = [
        _apart(pixels, _pixels(file)) for pixels, file in zip(decoded[:_BATCH], files, strict=False)
    ]
    return {
        "row": f"JPEGs by torchvision on {stage.device}",
        "ok": max(apart) <= _MOST_APART,
        "images_per_s": throughput,
        "largest_difference_of_255": max(apart),
        "images_that_differ": sum(one > 0 for one in apart),
        "images_compared": len(apart),
    }


def _measure_resizing(stage: Stage, files: Sequence[bytes]) -> Result:
    images = [_pixels(file).to(stage.device) for file in files[:_BATCH]]

    def shrink() -> list[torch.Tensor]:
        resized = [
            resize(one, [_SIDE, _SIDE], InterpolationMode.BILINEAR, antialias=True)
            for one in images
        ]
        _wait(stage)
        return resized

    resized, throughput = _repeat(stage, len(images), shrink)
    apart = [
        _apart(found, _resize_by_pillow(file))
        for found, file in zip(resized, files[:_BATCH], strict=True)
    ]
    return {
        "row": f"resizing by torchvision on {stage.device}",
        "ok": max(apart) <= _MOST_APART,
        "images_per_s": throughput,
        "largest_difference_of_255": max(apart),
    }


_MOST_APART = 64
"""A decoder that is further off than this, of 255, is wrong, and not just another one."""


def _repeat(stage: Stage, count: int, work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of some work, and its images/s, the median of a few rounds."""
    found, seconds = work(), []
    for _ in range(stage.sizes.rounds):
        began = perf_counter()
        found = work()
        seconds.append(perf_counter() - began)
    return found, round(count / median(seconds), 1)


def _wait(stage: Stage) -> None:
    if stage.device.startswith("cuda"):
        torch.cuda.synchronize(stage.device)


def _open(file: bytes) -> Image.Image:
    from io import BytesIO

    return Image.open(BytesIO(file)).convert("RGB")


def _pixels(file: bytes) -> torch.Tensor:
    return torch.from_numpy(np.asarray(_open(file)).copy()).permute(2, 0, 1)


def _resize_by_pillow(file: bytes) -> torch.Tensor:
    small = _open(file).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)


def _apart(found: torch.Tensor, expected: torch.Tensor) -> int:
    return int((found.cpu().int() - expected.int()).abs().max())
