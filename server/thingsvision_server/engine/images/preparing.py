"""Decodes and preprocesses images ahead of the device, in order.

All requests share a bounded pool of threads, person by person; each request has at most as many
images in preparation as its stream has room for.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ...access.person import caller_name
from ...errors import ImageError, InvalidRequestError
from ...images import (
    EncodedImage,
    ImageDecoder,
    KeptImage,
    NoImage,
    OpenedImage,
    ServerImage,
    fault_of,
    uniform_images,
)
from ...inputs import InputTransform, RequestItem, TensorImage, content_bytes, read_tensor
from ...monitoring.metrics import Metrics
from ...shortages import shortage_behind
from ...sources.preprocessing.geometry import find_steps
from ..byte_room import ByteRoom
from ..fairness.pool import FairPool
from ..passes.slots import Slot
from ..passes.stream import BatchStream, Hole, Prepared, PreparedImage
from .server_images import SentItem, ServerImages, sent_bytes
from .waiting_files import CallFiles, WaitingFiles

_IMAGE_AXES = 3

_SMALL_BYTES = 32 * 1024 * 1024
"""Images that take less memory are decoded without waiting for room."""

_HEAVY_BYTES = 256 * 1024 * 1024
"""Images that take more memory, and so a second to decode, leave a thread to others."""

T = TypeVar("T")

Submit = Callable[[Callable[[], Any]], "asyncio.Future[Any]"]
"""Submits work of a request to the pool."""

_Image = RequestItem | KeptImage | ServerImage

_Pending = asyncio.Queue[tuple[asyncio.Future[Prepared], int] | None]
"""Images in preparation, and the lengths of their files."""


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


@dataclass(frozen=True)
class _Place:
    """How an image of a request becomes an input, and where the input goes."""

    transform: InputTransform
    preparation: Preparation
    slot: Slot | None = None


@dataclass(frozen=True)
class _Large:
    """An image that must wait for room before it is decoded."""

    needed_bytes: int
    finish: Callable[[], Prepared]
    """Decodes it."""


class _InRoom:
    """Work in a thread, and what it took, which it gives back in the event loop, once."""

    def __init__(self, work: Callable[[], Any], release: Callable[[], None]) -> None:
        self._work = work
        self._release: Callable[[], None] | None = release
        self._has_begun = False
        self._loop = asyncio.get_running_loop()

    def run(self) -> Any:
        """Run the work."""
        self._has_begun = True
        try:
            return self._work()
        finally:
            with suppress(RuntimeError):  # the server has stopped
                self._loop.call_soon_threadsafe(self._give_back)

    def drop(self) -> None:
        """Give the room back if the work has not begun."""
        if not self._has_begun:
            self._give_back()

    def _give_back(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()


class ImagePreparer:
    """Decodes and preprocesses images in a pool of threads."""

    def __init__(
        self,
        decoder: ImageDecoder,
        images: ServerImages,
        metrics: Metrics,
        *,
        room: ByteRoom,
        waiting_files: WaitingFiles,
        threads: int,
        initializer: Callable[[], None] | None = None,
        release_memory: Callable[[], None] = lambda: None,
    ) -> None:
        self._decoder = decoder
        self._images = images
        self._metrics = metrics
        self._room = room
        self._waiting_files = waiting_files
        self._pool = FairPool(
            threads,
            "decode",
            initializer,
            on_used=lambda person, taken: metrics.people.add(person, decode_seconds=taken),
        )
        self._release_memory = release_memory
        self._heavy = asyncio.Semaphore(max(1, threads - 1))

    async def feed(
        self,
        stream: BatchStream,
        images: AsyncIterator[SentItem],
        transform: InputTransform,
        preparation: Preparation,
    ) -> None:
        """Read images, prepare them in parallel, and put them into the stream in order.

        Raises ImageError unless `preparation` skips bad images, or what reading raises. Cancelling
        drops images that have not started, or that wait for room.
        """
        pending: _Pending = asyncio.Queue()  # at most as long as the stream has room
        preparing = transform, preparation
        with self._waiting_files.open(stream.person) as files:
            reading = self._read(stream, images, preparing, files=files, pending=pending)
            reader = asyncio.create_task(reading, name="read images")
            try:
                while (begun := await pending.get()) is not None:
                    stream.put(await begun[0])
                    files.give_back(begun[1])
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
        preparing: tuple[InputTransform, Preparation],
        *,
        files: CallFiles,
        pending: _Pending,
    ) -> None:
        transform, preparation = preparing
        try:
            await stream.room.acquire()
            with self._pool.open(caller_name()) as submit:
                while (image := await _read_next(images, files)) is not None:
                    size = sent_bytes(image)
                    preparation.image_count += 1
                    preparation.byte_count += size
                    if stream.held is not None:
                        await stream.held.begin_image()
                    files.take(size)
                    place = _Place(transform, preparation, stream.begin_image())
                    # Submitted here, so that a request's images are decoded in their order.
                    begun = submit(partial(self._begin, image, place))
                    finishing = asyncio.ensure_future(self._finish(begun, submit))
                    pending.put_nowait((finishing, size))
                    await stream.room.acquire()
        finally:
            pending.put_nowait(None)

    async def _finish(self, begun: asyncio.Future[Prepared | _Large], submit: Submit) -> Prepared:
        """Return a prepared image; one that needs room is decoded when there is some."""
        prepared = await begun
        if not isinstance(prepared, _Large):
            return prepared
        return await self._run_in_room(prepared.needed_bytes, prepared.finish, submit)

    async def _run_in_room(self, needed_bytes: int, work: Callable[[], T], submit: Submit) -> T:
        """Run work in a thread; what it takes is taken until the thread is done, whoever waits."""
        with ExitStack() as taken:
            if needed_bytes > _HEAVY_BYTES:
                await self._heavy.acquire()
                taken.callback(self._heavy.release)
                work = partial(self._run_heavy, work)
            await self._room.acquire(needed_bytes)
            taken.callback(self._room.release, needed_bytes)
            running = _InRoom(work, taken.pop_all().close)
        try:
            result: T = await submit(running.run)
        except asyncio.CancelledError:
            running.drop()
            raise
        return result

    def _run_heavy(self, work: Callable[[], T]) -> T:
        """Run work, then return its memory to the system, which would be kept for later work."""
        try:
            return work()
        finally:
            self._release_memory()

    async def make_input(self, sent: SentItem, transform: InputTransform) -> Any:
        """Return what the network would get of an image: an array of float32.

        Raises ImageError, or what `transform` raises.
        """
        if isinstance(sent, NoImage):
            raise InvalidRequestError(f"`hole` must be left out, got it for image {sent.index}")
        place = _Place(transform, Preparation())
        with self._pool.open(caller_name()) as submit:
            begun = submit(partial(self._begin, sent, place))
            prepared = await self._finish(begun, submit)
            if isinstance(prepared, Hole):
                raise TypeError("an image that can't be used must be an error here")
            return await submit(partial(_finish, transform, prepared.tensor))

    async def value_range(self, transform: InputTransform) -> tuple[float, float] | None:
        """Return the smallest and the largest value of inputs; None if no images make inputs."""
        if transform.takes is not EncodedImage or len(transform.spec.shape) != _IMAGE_AXES:
            return None
        work = partial(self._value_range, transform)
        return await self._pool.run(caller_name(), work)

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

    def _begin(self, sent: SentItem, place: _Place) -> Prepared | _Large:
        """Return an image as input, or a hole where there is none; a large one is only opened."""
        if isinstance(sent, NoImage):
            return Hole(sent.index, time.monotonic(), slot=place.slot)
        return _or_hole(partial(self._open, sent, place), sent, place)

    def _open(
        self, sent: RequestItem | KeptImage | ServerImage, place: _Place
    ) -> Prepared | _Large:
        started = time.monotonic()
        item, transform = self._images.fetch(sent), place.transform
        transform.check_kind(item)
        if (digests := place.preparation.digests) is not None:
            digests[item.index] = hashlib.sha256(content_bytes(item)).hexdigest()
        if isinstance(item, TensorImage):
            return self._make(item, read_tensor(item, transform.spec.shape), place, started)
        if not isinstance(item, EncodedImage):
            return self._make(item, item.text, place, started)
        opened = self._decoder.open(item, partial(find_steps, transform.preprocessing))
        if opened.needed_bytes <= _SMALL_BYTES:
            return self._decode(opened, place, started)
        return _Large(opened.needed_bytes, partial(self._finish_large, opened, place))

    def _finish_large(self, opened: OpenedImage, place: _Place) -> Prepared:
        decode = partial(self._decode, opened, place, time.monotonic())
        return _or_hole(decode, opened.image, place)

    def _decode(self, opened: OpenedImage, place: _Place, started: float) -> PreparedImage:
        pixels = opened.decode()
        self._images.keep(opened.image)
        return self._make(opened.image, pixels, place, started)

    def _make(
        self, item: RequestItem, content: Any, place: _Place, started: float
    ) -> PreparedImage:
        """Return the input made of an item's content."""
        decoded_at, transform, slot = time.monotonic(), place.transform, place.slot
        tensor = transform.make_input(item, content, None if slot is None else slot.place)
        transform.check_shape(item, tuple(tensor.shape))
        if slot is not None:
            tensor = slot.fill(tensor)
        ready_at = time.monotonic()
        self._metrics.decode_seconds.observe(decoded_at - started)
        self._metrics.preprocess_seconds.observe(ready_at - decoded_at)
        place.preparation.decode_seconds += ready_at - started
        return PreparedImage(item.name, tensor, ready_at, slot)

    def close(self) -> None:
        """Shut the threads down; images that have not started are dropped."""
        self._pool.close()


async def _read_next(images: AsyncIterator[SentItem], files: CallFiles) -> SentItem | None:
    """Return a call's next image, or None at the end, when its files leave room for one more."""
    await files.wait_for_room()
    return await anext(images, None)


def _or_hole(prepare: Callable[[], T], sent: _Image, place: _Place) -> T | Hole:
    """Return a prepared image, or a hole if it can't be used and its request skips such images."""
    try:
        return prepare()
    except ImageError as error:
        # Nothing is wrong with an image that the server can't open for lack of something.
        if not place.preparation.skips_bad_images or shortage_behind(error) is not None:
            raise
        if place.preparation.digests is not None:
            place.preparation.digests.pop(sent.index, None)
        return Hole(sent.index, time.monotonic(), fault_of(sent, error), place.slot)


def _finish(transform: InputTransform, made: Any) -> Any:
    """Return what the network gets of an input that a transform made."""
    values = np.asarray(made)
    values = values if transform.finish is None else transform.finish(values)
    return np.ascontiguousarray(values, np.float32)


def _drop(begun: tuple[asyncio.Future[Prepared], int] | None) -> None:
    """Cancel a pending future; read the error of a finished future, so that it is not logged."""
    future = None if begun is None else begun[0]
    if future is not None and not future.cancel() and not future.cancelled():
        future.exception()
