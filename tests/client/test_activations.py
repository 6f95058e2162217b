from collections.abc import Callable, Iterator

import numpy as np
import pytest

from thingsvision_client.errors import ChecksumError, ImageError, IncompleteReplyError
from thingsvision_client.rpc.replies import Reply, check_names, collect
from thingsvision_client.rpc.unanswered import Unanswered
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.wire import ColumnSpec, FeatureWriter

NAMES = [f"{i}.png" for i in range(20)]
FEATURES = np.random.default_rng(0).normal(size=(20, 3, 50)).astype("float32")

Messages = list[pb.ExtractResponse]


def reply_messages() -> Messages:
    writer = FeatureWriter([ColumnSpec("conv", (3, 50)), ColumnSpec("sum", ())], frame_bytes=1000)
    arrays = [FEATURES, FEATURES.sum((1, 2))]
    frames = [*writer.write(NAMES, arrays), *writer.finish()]
    columns = [pb.Column(name="conv", shape=[3, 50], element_type=1), pb.Column(name="sum")]
    trailer = pb.ExtractTrailer(
        image_count=20,
        frame_count=writer.frame_count,
        arrow_bytes=writer.byte_count,
        arrow_crc32=writer.crc32,
    )
    return [
        pb.ExtractResponse(header=pb.ExtractReplyHeader(columns=columns)),
        *(
            pb.ExtractResponse(frame=pb.ArrowFrame(index=index, arrow_ipc=b"".join(frame)))
            for index, frame in enumerate(frames)
        ),
        pb.ExtractResponse(trailer=trailer),
    ]


def receive(messages, names=NAMES, expected_count=20):
    reply = Reply(messages)
    return collect(reply, check_names(reply.batches(), Unanswered(names)), expected_count)


@pytest.mark.parametrize("expected_count", [20, None, 3])
def test_a_whole_reply(expected_count: int | None) -> None:
    images, features = receive(reply_messages(), expected_count=expected_count)
    assert images == NAMES
    np.testing.assert_array_equal(features["conv"], FEATURES)
    np.testing.assert_array_equal(features["sum"], FEATURES.sum((1, 2)))
    assert features["conv"].flags.owndata
    assert features["conv"].flags.writeable


def test_every_early_end_is_incomplete() -> None:
    messages = reply_messages()
    for count in range(len(messages)):
        with pytest.raises(IncompleteReplyError):
            receive(messages[:count])


def test_every_lost_message_is_incomplete() -> None:
    messages = reply_messages()
    for lost in range(len(messages)):
        with pytest.raises(IncompleteReplyError):
            receive(messages[:lost] + messages[lost + 1 :])


def flip_a_value(messages: Messages) -> None:
    frame = messages[5].frame
    frame.arrow_ipc = (
        frame.arrow_ipc[:500] + bytes([frame.arrow_ipc[500] ^ 1]) + frame.arrow_ipc[501:]
    )


def count_other_images(messages: Messages) -> None:
    messages[-1].trailer.image_count = 21


def announce_other_columns(messages: Messages) -> None:
    messages[0].header.columns[0].shape[0] = 4


def go_on_after_the_trailer(messages: Messages) -> None:
    messages.append(messages[-1])


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (flip_a_value, ChecksumError),
        (count_other_images, IncompleteReplyError),
        (announce_other_columns, IncompleteReplyError),
        (go_on_after_the_trailer, IncompleteReplyError),
    ],
)
def test_a_spoilt_reply(spoil: Callable[[Messages], None], error: type[Exception]) -> None:
    messages = reply_messages()
    spoil(messages)
    with pytest.raises(error):
        receive(messages)


def test_rows_of_other_images() -> None:
    with pytest.raises(IncompleteReplyError, match="not for the image sent"):
        receive(reply_messages(), names=[*NAMES[:18], NAMES[19], NAMES[18]])
    with pytest.raises(IncompleteReplyError, match="20 images; the row of '20"):
        receive(reply_messages(), names=[*NAMES, "20.png"])


def test_an_error_of_the_call_passes_through_arrow() -> None:
    def broken() -> Iterator[pb.ExtractResponse]:
        yield from reply_messages()[:4]
        raise ImageError("cat.png is no image")

    with pytest.raises(ImageError, match=r"cat\.png"):
        receive(broken())
