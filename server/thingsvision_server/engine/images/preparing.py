"""Decodes and preprocesses images ahead of the device, in order.

All requests share a bounded pool of threads; each request has at most as many images in
preparation as its stream has room for.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...errors import ImageError, InvalidRequestError
from ...images import (
    EncodedImage,
    ImageDecoder,
    KeptImage,
    NoImage,
    ServerImage,
    fault_of,
    uniform_images,
)
from ...inputs import InputTransform, RequestItem, TensorImage, read_tensor
from ...metrics import Metrics
from ..passes.stream import BatchStream, Hole, Prepared, PreparedImage
from .server_images import SentItem, ServerImages

_IMAGE_AXES = 3

_Pending = asyncio.Queue[asyncio.Future[Prepared] | None]


@dataclass
class Preparation:
    """What has been prepared for one request so far."""

    image_count: int = 0
    byte_count: int = 0
    decode_seconds: float = 0.0
    skips_bad_images: bool = False
    """Whether an image that can't be used leaves a hole, in the place of an error."""
    digests: dict[int, str] | None = None
    """SHA-256 (hex) of the content of each image with a row, by its index; None if not needed."""


class ImagePreparer:
    """Decodes and preprocesses images in a pool of threads."""

    def __init__(
        self,
        decoder: ImageDecoder,
        images: ServerImages,
        metrics: Metrics,
        *,
        threads: int,
        initializer: Callable[[], None] | None = None,
    ) -> None:
        self._decoder = decoder
        self._images = images
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, "decode", initializer)

    async def feed(
        self,
        stream: BatchStream,
        images: AsyncIterator[SentItem],
        transform: InputTransform,
        preparation: Preparation,
    ) -> None:
        """Read images, prepare them in parallel, and put them into the stream in order.

        Raises ImageError unless `preparation` skips bad images, or what reading raises. Cancelling
        drops images that have not started.
        """
        pending: _Pending = asyncio.Queue()  # at most as long as the stream has room
        reading = self._read(
            stream, images, transform=transform, preparation=preparation, pending=pending
        )
        reader = asyncio.create_task(reading, name="read images")
        try:
            while (future := await pending.get()) is not None:
                stream.put(await future)
            await reader
        finally:
            reader.cancel()
            while not pending.empty():
                _drop(pending.get_nowait())
        if not preparation.image_count:
            raise InvalidRequestError(
                "the request must have at least one image after the header", field="image"
            )
        stream.end()

    async def _read(
        self,
        stream: BatchStream,
        images: AsyncIterator[SentItem],
        *,
        transform: InputTransform,
        preparation: Preparation,
        pending: _Pending,
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            await stream.room.acquire()
            async for image in images:
                preparation.image_count += 1
                preparation.byte_count += _byte_count(image)
                work = partial(self._prepare_place, image, transform, preparation)
                pending.put_nowait(loop.run_in_executor(self._pool, work))
                await stream.room.acquire()
        finally:
            pending.put_nowait(None)

    async def make_input(self, sent: SentItem, transform: InputTransform) -> Any:
        """Return what the network would get of an image: an array of float32.

        Raises ImageError, or what `transform` raises.
        """
        work = partial(self._make_input, sent, transform)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _make_input(self, sent: SentItem, transform: InputTransform) -> Any:
        if isinstance(sent, NoImage):
            raise InvalidRequestError(f"`hole` must be left out, got it for image {sent.index}")
        prepared = self._prepare(sent, transform, Preparation())
        return _finish(transform, prepared.tensor)

    async def value_range(self, transform: InputTransform) -> tuple[float, float] | None:
        """Return the smallest and the largest value of inputs; None if no images make inputs."""
        if transform.takes is not EncodedImage or len(transform.spec.shape) != _IMAGE_AXES:
            return None
        work = partial(self._value_range, transform)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _value_range(self, transform: InputTransform) -> tuple[float, float] | None:
        """Return the extremes of a black and of a white image: every step is monotonic."""
        try:
            inputs = [
                _finish(transform, transform.apply(image))
                for image in uniform_images(transform.spec.shape)
            ]
        except InvalidRequestError:  # no preprocessing was declared
            return None
        return float(min(map(np.min, inputs))), float(max(map(np.max, inputs)))

    def _prepare_place(
        self, sent: SentItem, transform: InputTransform, preparation: Preparation
    ) -> Prepared:
        """Return an image as input, or a hole where there is none or it can't be used."""
        if isinstance(sent, NoImage):
            return Hole(sent.index, time.monotonic())
        try:
            return self._prepare(sent, transform, preparation)
        except ImageError as error:
            if not preparation.skips_bad_images:
                raise
            if preparation.digests is not None:
                preparation.digests.pop(sent.index, None)
            return Hole(sent.index, time.monotonic(), fault_of(sent, error))

    def _prepare(
        self,
        sent: RequestItem | KeptImage | ServerImage,
        transform: InputTransform,
        preparation: Preparation,
    ) -> PreparedImage:
        started = time.monotonic()
        item = self._images.fetch(sent)
        transform.check_kind(item)
        if preparation.digests is not None:
            preparation.digests[item.index] = hashlib.sha256(_bytes(item)).hexdigest()
        content = self._content(item, transform)
        self._images.keep(item)
        decoded_at = time.monotonic()
        tensor = transform.make_input(item, content)
        transform.check_shape(item, tuple(tensor.shape))
        ready_at = time.monotonic()
        self._metrics.decode_seconds.observe(decoded_at - started)
        self._metrics.preprocess_seconds.observe(ready_at - decoded_at)
        preparation.decode_seconds += ready_at - started
        return PreparedImage(item.name, tensor, ready_at)

    def _content(self, item: RequestItem, transform: InputTransform) -> Any:
        if isinstance(item, EncodedImage):
            return self._decoder.decode(item)
        if isinstance(item, TensorImage):
            return read_tensor(item, transform.spec.shape)
        return item.text

    def close(self) -> None:
        """Shut the threads down; images that have not started are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _finish(transform: InputTransform, made: Any) -> Any:
    """Return what the network gets of an input that a transform made."""
    values = np.asarray(made)
    values = values if transform.finish is None else transform.finish(values)
    return np.ascontiguousarray(values, np.float32)


def _byte_count(item: SentItem) -> int:
    return len(_bytes(item)) if isinstance(item, RequestItem) else 0


def _bytes(item: RequestItem) -> bytes:
    """Return the content of an item as bytes."""
    if isinstance(item, EncodedImage):
        return item.encoded
    return item.values if isinstance(item, TensorImage) else item.text.encode()


def _drop(future: asyncio.Future[Prepared] | None) -> None:
    """Cancel a pending future; read the error of a finished future, so that it is not logged."""
    if future is not None and not future.cancel() and not future.cancelled():
        future.exception()
