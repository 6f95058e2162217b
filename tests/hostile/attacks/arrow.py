"""Arrow streams that announce more than they send, or are never finished."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pyarrow as pa

from support.arrow_streams import announced, body_bytes, features, sent, stream
from support.stock_calls import stock_calls

from .registry import Target, attack


def _refuse(target: Target, content: bytes) -> None:
    with stock_calls(target.address) as stock:
        refusal = stock.refusal("ComputeRDM", sent(content))
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT, refusal


@attack()
def compressed_features(target: Target) -> None:
    """Send a zstd frame of kilobytes that becomes 100 MB."""
    values = pa.array(np.zeros(25_000_000, np.float32))
    batch = pa.record_batch(
        [pa.array(["a"]), pa.FixedSizeListArray.from_arrays(values, len(values))],
        names=["image", "a"],
    )
    _refuse(target, stream(batch, compression="zstd"))


@attack()
def an_announced_gigabyte(target: Target) -> None:
    """Announce a record batch of 1.6 GB, and send 200 MB of it."""
    small = stream(features(3, 4))
    length = body_bytes(small)
    start = announced(small, 1_600_000_000, length)[: -length - 8]
    _refuse(target, start + bytes(200_000_000))


@attack()
def long_names_of_features(target: Target) -> None:
    """Send features of images whose names have 30 MB each."""
    _refuse(target, stream(features(4, 4, [f"{row}" * 30_000_000 for row in range(4)])))


@attack()
def silent_features(target: Target) -> None:
    """Open 100 calls that send the beginning of features and then nothing."""
    over = threading.Event()

    def requests() -> Iterator[Any]:
        yield from sent(stream(features(3, 4))[:-100])
        over.wait(30)

    with stock_calls(target.address) as stock:
        calls = [stock.start("ComputeRDM", requests()) for _ in range(100)]
        over.wait(2)
        for call in calls:
            call.cancel()
        over.set()
        assert {call.code() for call in calls} == {grpc.StatusCode.CANCELLED}
