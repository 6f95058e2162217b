"""Files that were received and wait to be decoded: limited for a call, and for a person."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from support.serving import TestServer
from support.stock_calls import StockCaller, extraction, image
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.engine.images.waiting_files import CallFiles, WaitingFiles

OVERRIDES = pb.PreprocessingOverrides(resize_pixels=[64], crop_pixels=[64])


async def waits(task: asyncio.Task[None]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


async def read(call: CallFiles, byte_count: int) -> None:
    await call.wait_for_room()
    call.take(byte_count)


async def test_a_call_reads_on_until_it_holds_its_limit() -> None:
    files = WaitingFiles(100, 1000)
    with files.open("ada") as call, files.open("ada") as other:
        for _ in range(2):
            await read(call, 60)
        waiting = asyncio.create_task(read(call, 60))
        assert await waits(waiting)
        await read(other, 60)
        call.give_back(60)
        await asyncio.wait_for(waiting, 5)


async def test_a_persons_calls_wait_for_each_other_but_for_nobody_else() -> None:
    files = WaitingFiles(100, 100)
    with ExitStack() as stack:
        calls = [stack.enter_context(files.open("ada")) for _ in range(4)]
        await read(calls[0], 50)
        await read(calls[1], 50)
        waiting = [asyncio.create_task(read(call, 10)) for call in calls[2:]]
        assert await waits(waiting[0])
        with files.open("bob") as of_bob:
            await asyncio.wait_for(read(of_bob, 50), 5)
        calls[0].give_back(10)
        assert not await waits(waiting[0])
        assert await waits(waiting[1]), "near the limit, one call at a time"
        assert files.held_bytes("ada") == 100
        calls[1].give_back(50)
        await asyncio.wait_for(waiting[1], 5)
    assert files.held_bytes("ada") == 0
    assert not files._people


async def test_who_is_let_in_and_sends_nothing_holds_nobody_up() -> None:
    """Only a silent client has its turn; when the others' files are decoded, all read."""
    files = WaitingFiles(100, 100)
    with files.open("ada") as busy, files.open("ada") as silent, files.open("ada") as other:
        await read(busy, 100)
        waiting = [asyncio.create_task(one.wait_for_room()) for one in (silent, other)]
        assert await waits(waiting[0])
        busy.give_back(40)
        assert not await waits(waiting[0])
        assert await waits(waiting[1])
        busy.give_back(60)
        await asyncio.wait_for(waiting[1], 5)


async def test_a_call_that_ends_gives_back_and_leaves_no_turn_behind() -> None:
    files = WaitingFiles(100, 100)
    with files.open("ada") as other:
        with files.open("ada") as full:
            await read(full, 500)
            waiting = [asyncio.create_task(other.wait_for_room()) for _ in range(2)]
            assert await waits(waiting[0])
            waiting[0].cancel()
            assert await waits(waiting[1])
        await asyncio.wait_for(waiting[1], 5)


@contextmanager
def decoders_held(server: TestServer) -> Iterator[None]:
    """Keep all threads that decode busy, so that no image is decoded, while the context lasts."""
    going_on = threading.Event()
    pool = server.running.extractor._preparer._pool
    busy = [pool._threads.submit(going_on.wait, 60) for _ in range(pool._threads._max_workers)]
    try:
        yield
    finally:
        going_on.set()
        for one in busy:
            one.result(60)


def test_fifty_connections_hold_no_more_than_one_persons_limit(
    server: TestServer, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each read when the limit was reached comes on top: one file of each connection."""
    calls, limit = 50, 2_000_000
    small = io.BytesIO()
    Image.open(photos[0]).convert("RGB").resize((64, 64)).save(small, "JPEG")
    photo = small.getvalue() + bytes(40_000)  # what follows a photo's end is not read
    files, person = server.running.extractor._preparer._waiting_files, "ipv4:127.0.0.1"
    monkeypatch.setattr(files, "person_bytes", limit)
    most = 0

    def send() -> Iterator[Any]:
        yield extraction("features.2", overrides=OVERRIDES, batch_size=8)
        for index in range(8):
            yield image(index, str(index), photo)

    def extract() -> bytes:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.address, options) as channel:
            replies = StockCaller(channel).call("Extract", send())
        assert replies[-1].WhichOneof("part") == "trailer"
        return b"".join(one.frame.arrow_ipc for one in replies if one.WhichOneof("part") == "frame")

    expected = extract()
    assert calls * 8 * len(photo) > 5 * limit
    with ThreadPoolExecutor(calls) as threads:
        with decoders_held(server):
            running = [threads.submit(extract) for _ in range(calls)]
            ends = time.monotonic() + 60
            while files.held_bytes(person) < limit and time.monotonic() < ends:
                time.sleep(0.02)
            for _ in range(50):
                most = max(most, files.held_bytes(person))
                time.sleep(0.01)
        assert {one.result(120) for one in running} == {expected}
    assert limit <= most <= limit + calls * len(photo)
    assert files.held_bytes(person) == 0
