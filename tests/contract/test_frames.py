"""Protobuf reads frames written by hand, and frames written by protobuf are read."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest

from thingsvision_proto.frames import (
    MAX_FRAME_BYTES,
    Frame,
    frame_message,
    frame_writer,
    reply_reader,
    reply_writer,
)
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.wire import FRAME_BYTES, ColumnSpec, FeatureReader, FeatureWriter

REPLIES = (pb.ExtractResponse, pb.ComputeRDMResponse)
ROWS = np.random.default_rng(0).normal(size=(40, 6, 1000)).astype("float32")
NAMES = [f"{index} of them.png" for index in range(len(ROWS))]


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("index", [0, 1, 127, 128, 2**31, 2**35 - 1])
@pytest.mark.parametrize("length", [0, 1, 127, 128, 300_000])
def test_protobuf_reads_a_frame_written_by_hand(reply: Any, index: int, length: int) -> None:
    payload = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    message = frame_message(index, [memoryview(payload)[:100], payload[100:]])
    parsed = reply.FromString(message)
    assert parsed.WhichOneof("part") == "frame"
    assert (parsed.frame.index, parsed.frame.arrow_ipc) == (index, payload)
    assert parsed.ByteSize() <= len(message)
    assert reply_reader(reply.FromString)(message) == Frame(index, payload)


@pytest.mark.parametrize("reply", REPLIES)
def test_the_switch_has_protobuf_write_the_same_frames(reply: Any) -> None:
    by_hand, by_protobuf = (frame_writer(reply, fast=fast) for fast in (True, False))
    assert by_hand is frame_message
    frame = pb.ArrowFrame(index=7, arrow_ipc=b"ab" * 90_000)
    written = by_protobuf(7, [b"ab" * 30_000, memoryview(b"ab" * 60_000)])
    assert written == reply(frame=frame).SerializeToString()
    assert reply.FromString(by_hand(7, [frame.arrow_ipc])) == reply.FromString(written)
    assert reply_reader(reply.FromString)(written).frame == frame


def test_a_frame_that_is_too_long_is_refused() -> None:
    class Long(bytes):
        def __len__(self) -> int:
            return MAX_FRAME_BYTES + 1

    with pytest.raises(ValueError, match="268,435,444 bytes"):
        frame_message(0, [Long()])


@pytest.mark.parametrize("reply", REPLIES)
def test_what_protobuf_wrote_is_read_by_protobuf(reply: Any) -> None:
    read = reply_reader(reply.FromString)
    for message in (
        reply(frame=pb.ArrowFrame(index=3, arrow_ipc=b"x" * 200_000)),
        reply(frame=pb.ArrowFrame(index=3)),
        reply(frame=pb.ArrowFrame()),
        reply(),
    ):
        assert read(message.SerializeToString()) == message
        assert reply_writer(reply.SerializeToString)(message) == message.SerializeToString()


@pytest.mark.parametrize("place", range(16))
def test_a_head_that_is_not_ours_is_left_to_protobuf(place: int) -> None:
    message = bytearray(frame_message(5, [b"y" * 300]))
    message[place] ^= 1
    seen: list[bytes] = []

    def parse(raw: bytes) -> str:
        seen.append(raw)
        return "protobuf"

    read = reply_reader(parse)(bytes(message))
    if 6 <= place <= 10:  # another index is a frame as well, unless its bytes are no padded number
        assert read == "protobuf" or read.index != 5
    else:
        assert (read, seen) == ("protobuf", [bytes(message)])


@pytest.mark.parametrize(("values", "most"), [(6000, FRAME_BYTES), (6, FRAME_BYTES), (6, 600)])
def test_frames_keep_to_their_length(values: int, most: int) -> None:
    rows = ROWS.reshape(len(ROWS), -1)[:, :values].copy()
    writer = FeatureWriter([ColumnSpec("conv", (values,))], most)
    frames = [b"".join(f) for f in chain(writer.write(NAMES, [rows]), writer.finish())]
    assert max(map(len, frames)) <= most
    assert (writer.frame_count, writer.byte_count) == (len(frames), sum(map(len, frames)))
    read = list(FeatureReader(frames))
    assert [name for names, _ in read for name in names] == NAMES
    np.testing.assert_array_equal(np.concatenate([part for _, (part,) in read]), rows)


def test_values_are_views_into_messages_and_aligned() -> None:
    writer = FeatureWriter([ColumnSpec("conv", ROWS.shape[1:])])
    pieces = chain(writer.write(NAMES, [ROWS]), writer.finish())
    read = reply_reader(pb.ExtractResponse.FromString)
    messages = [read(frame_message(index, frame)) for index, frame in enumerate(pieces)]
    addresses = [np.frombuffer(one.arrow_ipc, np.uint8).ctypes.data for one in messages]
    for _, (rows,) in FeatureReader([one.arrow_ipc for one in messages]):
        assert rows.flags.aligned
        assert not rows.flags.writeable
        spans = zip(addresses, messages, strict=True)
        assert any(0 <= rows.ctypes.data - at < len(one.arrow_ipc) for at, one in spans)


def test_frames_cut_anywhere_are_read() -> None:
    writer = FeatureWriter([ColumnSpec("conv", ROWS.shape[1:])])
    whole = b"".join(chain.from_iterable(chain(writer.write(NAMES, [ROWS]), writer.finish())))
    for length in (7, 999, 300_001):
        frames = [whole[at : at + length] for at in range(0, len(whole), length)]
        parts = [part for _, (part,) in FeatureReader(frames)]
        assert all(part.flags.aligned for part in parts)
        np.testing.assert_array_equal(np.concatenate(parts), ROWS)
