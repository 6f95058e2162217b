"""Arrow streams that announce more than they send, or inflate: refused before they are read."""

from __future__ import annotations

import gc
import time

import grpc
import numpy as np
import pyarrow as pa
import pytest

from support.arrow_streams import announced, body_bytes, features, sent, stream
from support.serving import TestServer
from support.stock_calls import stock_calls
from thingsvision_proto.wire import ColumnSpec, FeatureWriter, WireError
from thingsvision_server.rpc.sent_features import SentFeatures

SMALL = stream(features(3, 4))
BODY = body_bytes(SMALL)
IMAGES = pa.array(["a", "b", "c"])
TENSORS = features(3, 4).column(1)


def with_rows(count: int) -> bytes:
    """Return a stream whose record batch of 3 rows announces others; its body is as before."""
    rows = (3).to_bytes(8, "little")
    start = SMALL.index(rows, SMALL.index(BODY.to_bytes(8, "little")))
    return SMALL[:start] + count.to_bytes(8, "little", signed=True) + SMALL[start + 8 :]


REFUSED = {
    "zstd": (stream(features(25, 1_000_000), compression="zstd"), "is compressed: write it"),
    "lz4": (stream(features(10, 1_000), compression="lz4"), "is compressed: write it"),
    "1.6 GB announced": (
        announced(SMALL, 1_600_000_000, BODY)[: -BODY - 8],
        "at most 1,048,576 rows and 268,435,456 bytes, got 3 rows and 1,600,000,000 bytes",
    ),
    "a negative length": (announced(SMALL, -8, BODY), "got 3 rows and -8 bytes"),
    "a body that is shorter": (announced(SMALL, 8, BODY), "broken"),
    "2 ** 62 rows": (with_rows(2**62), "got 4,611,686,018,427,387,904 rows"),
    "more rows than there are": (with_rows(1000), "broken"),
    "a dictionary": (
        stream(pa.record_batch([IMAGES.dictionary_encode(), TENSORS], names=["image", "a"])),
        "must have a column 'image' of type utf8",
    ),
    "lists of lists": (
        stream(pa.record_batch([IMAGES, pa.array([[[1.0]]] * 3)], names=["image", "a"])),
        "must be FixedSizeList or fixed_shape_tensor over",
    ),
    "metadata of 17 MB": (
        stream(features(1, 1).replace_schema_metadata({"a": "x" * 17_000_000})),
        "the metadata of a message must have at most 16,777,216 bytes, got 17,0",
    ),
    "names of 30 MB": (
        stream(features(2, 4, ["a" * 30_000_000, "b"])),
        "must have at most 65,536 bytes, got 30,000,000",
    ),
    "names that are not UTF-8": (SMALL.replace(b"012", b"\xff\xfe\xfd"), "UTF8"),
    "an end within a batch": (SMALL[:-20], "ends within a message"),
    "no schema": (b"\xff\xff\xff\xff\0\0\0\0", "they have no schema"),
    "other bytes": (b"PK\x03\x04" * 100, "the metadata of a message must have at most"),
}


@pytest.mark.parametrize(("content", "fault"), REFUSED.values(), ids=REFUSED)
def test_a_stream_that_is_not_features_is_invalid(
    server: TestServer, content: bytes, fault: str
) -> None:
    with stock_calls(server.address) as stock:
        refusal = stock.refusal("ComputeRDM", sent(content))
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert fault in refusal.sentence


def frames_of(rows: np.ndarray) -> list[bytes]:
    writer = FeatureWriter([ColumnSpec("a", rows.shape[1:])])
    names = [str(row) for row in range(len(rows))]
    frames = [*writer.write(names, [rows]), *writer.finish()]
    return [b"".join(frame) for frame in frames]


@pytest.mark.parametrize("frame_bytes", [0, 7, 4_096, 10**9])
def test_frames_may_split_a_stream_anywhere(frame_bytes: int) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 3, 50), np.float32)
    frames, found, names = frames_of(rows), [], []
    if frame_bytes:
        whole = b"".join(frames)
        frames = [whole[at : at + frame_bytes] for at in range(0, len(whole), frame_bytes)]
    reader = SentFeatures()
    for frame in frames:
        for images, arrays in reader.feed(frame):
            names += images
            found.append(arrays[0].copy())
    reader.finish()
    assert reader.columns == (ColumnSpec("a", (3, 50)),)
    assert names == [str(row) for row in range(40)]
    assert np.array_equal(np.concatenate(found), rows)


def test_streams_of_old_writers_are_read() -> None:
    reader = SentFeatures()
    batches = reader.feed(stream(features(3, 4), features(2, 4), use_legacy_format=True))
    reader.finish()
    assert [len(names) for names, _ in batches] == [3, 2]


def test_a_buffer_may_be_longer_than_its_values() -> None:
    start = SMALL.index((16).to_bytes(8, "little"))  # in the list of buffers
    longer = SMALL[:start] + (17).to_bytes(8, "little") + SMALL[start + 8 :]
    [(names, arrays)] = SentFeatures().feed(longer)
    [(expected, rows)] = SentFeatures().feed(SMALL)
    assert names == expected
    assert np.array_equal(arrays[0], rows[0])


def test_a_schema_in_the_middle_is_refused() -> None:
    reader = SentFeatures()
    with pytest.raises(WireError):
        reader.feed(SMALL[:-8] + SMALL)


def test_what_a_refused_call_held_is_freed_with_it(server: TestServer) -> None:
    content, _ = REFUSED["names of 30 MB"]
    gc.collect()
    gc.disable()
    try:
        with stock_calls(server.address) as stock:
            assert (
                stock.refusal("ComputeRDM", sent(content)).code == grpc.StatusCode.INVALID_ARGUMENT
            )
        deadline = time.monotonic() + 30
        while any(type(one) is SentFeatures for one in gc.get_objects()):
            assert time.monotonic() < deadline, "only a collection of garbage frees it"
            time.sleep(0.1)
    finally:
        gc.enable()
