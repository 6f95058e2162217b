"""The Preprocess call: sends images, returns them as a model's inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..arrays import Array, RowStore
from ..display.cards import Shown, shape_text
from ..errors import IncompleteReplyError, InvalidRequestError
from ..images.queue import ImageQueue
from ..values.model import Model, as_model
from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from ..values.records import to_record
from .agreement import check_preprocessing
from .connection import Connection
from .image_call import ImageCall
from .unanswered import Unanswered


@dataclass(frozen=True, repr=False)
class Inputs(Shown):
    """Images as a model's inputs.

    Attributes:
        inputs: Images x one input's shape, float32: channels x height x width, or height x width x
            channels for Keras.
        images: Names of the images.
        preprocessing: How images became inputs.

    Example:
        ```python
        from thingsvision_client import Client

        found = Client().preprocess("torchvision/alexnet", "photos")
        print(found.images, found.inputs.shape, found.preprocessing.description)
        ```

    """

    inputs: Array
    images: list[str]
    preprocessing: Preprocessing

    def _facts(self) -> dict[str, Any]:
        return {
            "inputs": shape_text(self.inputs.shape, self.inputs.dtype),
            "images": len(self.images),
            "preprocessing": str(self.preprocessing),
        }


def set_preprocessing(
    header: pb.ExtractHeader | pb.PreprocessHeader,
    given: PreprocessingOverrides | Preprocessing | None,
) -> None:
    """Set what takes the place of the model's own preprocessing, if anything does."""
    if given is None or given.is_empty:
        return
    if isinstance(given, Preprocessing):
        header.preprocessing.CopyFrom(given.to_message())
    elif isinstance(given, PreprocessingOverrides):
        header.overrides.CopyFrom(given.to_message())
    else:
        raise InvalidRequestError(
            "`preprocessing` must be a PreprocessingOverrides or a Preprocessing, got "
            f"{type(given).__name__}."
        )


def preprocess(
    connection: Connection,
    model: Model | str,
    queue: ImageQueue,
    preprocessing: PreprocessingOverrides | Preprocessing | None,
) -> Inputs:
    """Return the images as inputs of a model. Raises ThingsvisionError."""
    header = pb.PreprocessHeader(model=as_model(model).to_spec())
    set_preprocessing(header, preprocessing)
    if queue.tensor_shape is not None:
        raise InvalidRequestError(
            "`images` must be images, got arrays that are a model's inputs already: images are "
            "files, PIL images, or uint8 arrays of height x width x 3."
        )

    def receive(replies: Iterator[Any], unanswered: Unanswered) -> Inputs:
        first = next(replies, None)
        if first is None or first.WhichOneof("part") != "header":
            raise IncompleteReplyError("The server's reply has no header: repeat the call.")
        check_preprocessing(header, first.header.preprocessing)
        rows = RowStore(tuple(first.header.shape), np.float32, queue.count)
        images = _collect(replies, rows, unanswered)
        return Inputs(rows.finish(), images, to_record(first.header.preprocessing))

    method, key = connection.stubs.features.Preprocess, model_id(header.model)
    call = ImageCall(connection, method, request=pb.PreprocessRequest, header=header, model_id=key)
    return call.result(queue, receive)


def _collect(replies: Iterator[Any], rows: RowStore, unanswered: Unanswered) -> list[str]:
    """Append the inputs to `rows`, and return the names of their images."""
    images = []
    for values in _inputs(replies, rows.shape):
        images.append(unanswered.pop() or "")
        rows.append(values[None])
    if unanswered.pop() is not None or len(images) != unanswered.sent_count:
        raise IncompleteReplyError(
            f"The server sent {len(images)} inputs of {unanswered.sent_count} images: "
            "repeat the call."
        )
    return images


def _inputs(replies: Iterator[Any], shape: tuple[int, ...]) -> Iterator[Array]:
    """Yield the inputs, joined from their parts."""
    size, index, content = 4 * prod(shape), 0, bytearray()
    for reply in replies:
        if reply.input.index != index:
            raise IncompleteReplyError("The server left out a part of an input: repeat the call.")
        content += reply.input.values
        if len(content) >= size:
            if len(content) > size:
                raise IncompleteReplyError("The server sent too long an input: repeat the call.")
            yield np.frombuffer(bytes(content), "<f4").reshape(shape)
            index, content = index + 1, bytearray()
    if content:
        raise IncompleteReplyError("The server's last input is incomplete: repeat the call.")
