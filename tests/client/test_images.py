from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.sent_images import messages
from thingsvision_client.errors import ImageError, InvalidRequestError
from thingsvision_client.images.queue import queue_images
from thingsvision_client.rpc.image_stream import ImageStream
from thingsvision_proto.model_id import ANY_MODEL


def test_files_are_opened_only_when_sent(tmp_path: Path) -> None:
    first, second = tmp_path / "1.png", tmp_path / "2.png"
    first.write_bytes(b"one")
    queue = queue_images([first, second])
    assert queue.count == 2
    images = ImageStream(queue, None, ANY_MODEL)
    sent = images.messages()
    assert next(sent).encoded == b"one"
    assert list(images.unanswered) == [str(first)]
    with pytest.raises(ImageError, match=r"2\.png.*No such file") as caught:
        next(sent)
    assert caught.value.subject == str(second)


def test_pairs_and_generators() -> None:
    queue = queue_images((name, b"bytes") for name in "ab")
    assert queue.count is None
    assert [(m.index, m.name, m.encoded) for m in messages(queue)] == [
        (0, "a", b"bytes"),
        (1, "b", b"bytes"),
    ]


def test_a_folder_is_named_relative_to_itself(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_bytes(b"")
    assert [m.name for m in messages(queue_images(tmp_path))] == ["a.png", "b.png"]
    assert [m.name for m in messages(queue_images(str(tmp_path / "b.png")))] == [
        str(tmp_path / "b.png")
    ]


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3)), 3, ("a", "text"), (b"x", b"y")])
def test_files_that_are_not_images_are_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="path of an image file"):
        queue_images([wrong])  # type: ignore[list-item]


@pytest.mark.parametrize("none", [[], (), iter([]), np.zeros((0, 3, 8, 8))], ids=type)
def test_no_images(none: object) -> None:
    with pytest.raises(InvalidRequestError, match="no images"):
        queue_images(none)


def test_arrays_are_ready_inputs() -> None:
    values = np.arange(24).reshape(2, 3, 4).astype("float32")
    queue = queue_images([("a", values), ("b", values[:, ::-1])])
    assert (queue.count, queue.tensor_shape) == (2, (2, 3, 4))
    sent = [(m.name, np.frombuffer(m.tensor, "<f4").reshape(2, 3, 4)) for m in messages(queue)]
    assert [name for name, _ in sent] == ["a", "b"]
    np.testing.assert_array_equal(sent[0][1], values)
    np.testing.assert_array_equal(sent[1][1], values[:, ::-1])
    rows = queue_images(np.stack([values] * 3))
    assert (rows.count, rows.tensor_shape) == (3, (2, 3, 4))
    assert [m.name for m in messages(rows)] == ["0", "1", "2"]


def test_images_are_all_of_one_kind() -> None:
    queue = queue_images([("a", b"file"), ("b", np.zeros((1, 2)))])
    sent = messages(queue)
    next(sent)
    with pytest.raises(ImageError, match="'b' is an array of 1 x 2, but the first is a file"):
        next(sent)


def test_a_generator_is_not_read_ahead_of_its_first_image() -> None:
    taken = []

    def images() -> Iterator[tuple[str, bytes]]:
        for name in "abc":
            taken.append(name)
            yield name, b""

    queue = queue_images(images())
    assert taken == ["a"]
    assert [m.name for m in messages(queue)] == ["a", "b", "c"]


def test_a_name_that_is_not_utf8_is_named() -> None:
    with pytest.raises(ImageError, match="UTF-8"):
        list(messages(queue_images([("caf\udce9.png", b"")])))
