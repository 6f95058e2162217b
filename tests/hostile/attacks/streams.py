"""Calls that are begun and not gone on with."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc

from support.stock_calls import StockCaller, extraction, image, stock_calls
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from .registry import MODULE, Target, attack


@attack()
def silent_streams(target: Target) -> None:
    """Open 100 streams that send a header and then nothing, and cancel them after a second."""
    over = threading.Event()

    def requests() -> Iterator[Any]:
        yield extraction(MODULE)
        over.wait(30)

    with stock_calls(target.address) as stock:
        _cancel_soon(over, [stock.start("Extract", requests()) for _ in range(100)])


@attack()
def silent_uploads(target: Target) -> None:
    """Announce 20 uploads of 20 MB that send a part and then nothing."""
    over = threading.Event()

    def requests(number: int) -> Iterator[Any]:
        digest = f"{number:064x}"
        header = pb.UploadWeightsHeader(sha256=digest, size_bytes=20_000_000)
        yield pb.UploadWeightsRequest(header=header)
        yield pb.UploadWeightsRequest(chunk=bytes(100_000))
        over.wait(30)

    with stock_calls(target.address) as stock:
        _cancel_soon(over, [stock.start("UploadWeights", requests(n)) for n in range(20)])


@attack()
def cancelled_extractions(target: Target) -> None:
    """Send 200 images in each of 12 calls, and cancel them at once."""
    photo = target.photos[0].read_bytes()
    requests = [extraction(MODULE), *(image(n, str(n), photo) for n in range(200))]
    with ExitStack() as stack:
        callers: list[StockCaller] = [
            stack.enter_context(stock_calls(target.address)) for _ in range(4)
        ]
        calls = [callers[n % 4].start("Extract", requests) for n in range(12)]
        _cancel_soon(threading.Event(), calls)


def _cancel_soon(over: threading.Event, calls: list[Any]) -> None:
    time.sleep(1)
    for call in calls:
        call.cancel()
    over.set()
    for call in calls:
        assert call.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE), call
