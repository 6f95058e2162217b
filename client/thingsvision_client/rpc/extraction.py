"""The Extract call: sends images, returns their features in memory or as a stream."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any, NoReturn

import numpy as np

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..arrays import Array
from ..calls.arguments import as_texts
from ..calls.caller import warn_caller
from ..calls.memory import check_fits, size_text
from ..display.cards import Shown, array_texts
from ..display.progress import Progress, loading, note
from ..errors import BadImage, InvalidRequestError
from ..images.queue import ImageQueue
from ..labels import are_counted, remember_rows
from ..values.axes import FEATURES, axis_names
from ..values.model import Model, as_model
from ..values.options import ExtractOptions
from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from ..values.provenance import Provenance
from ..values.records import Timings, to_record
from ..values.tokens import TOKEN_NAMES
from .agreement import Answer, check_answer
from .bad_images import STOP, prepare, settle
from .connection import Connection
from .image_call import ImageCall
from .inputs import set_preprocessing
from .replies import DTYPES, Batch, Reply, check_names, collect
from .unanswered import Unanswered

_ONE_PROCESS = (
    "its rows come over a call of that process. Give other processes the client, and call its "
    "`stream` there."
)


@dataclass(frozen=True, repr=False)
class Extraction(Shown):
    """Features of images, and how they were computed.

    Attributes:
        features: An array of images x shape, float32 (or float16 if `dtype` asked for it), per
            requested module, in order; row i is of `images[i]`.
        images: Names of the images.
        provenance: What computed the features: model, weights, preprocessing, device and versions.
        timings: Where the server spent its time, in seconds.
        batch_size: Images in a forward pass; 0 means as many as were ready.
        token_extraction: What was selected from token sequences; None means all tokens.
        axes: Per module, what each axis after the first is: `channels`, `height`, `width`,
            `tokens`, `features`, or empty if it is not known. PyTorch's maps are mostly channels x
            height x width, Keras's height x width x channels.
        skipped: Images that could not be used, which have no row: place, name and reason of each.

    Example:
        ```python
        from thingsvision_client import Client

        extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
        for name, row in zip(extraction.images, extraction.features["features.10"]):
            print(name, row.shape, row.mean())
        ```

    """

    features: dict[str, Array]
    images: list[str]
    provenance: Provenance
    timings: Timings
    batch_size: int
    token_extraction: str | None = None
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[BadImage, ...] = ()

    def _facts(self) -> dict[str, Any]:
        return {
            "images": len(self.images),
            **array_texts(self.features),
            "model": self.provenance.model,
            "batch size": self.batch_size or None,
            "tokens": self.token_extraction,
            "skipped": len(self.skipped) or None,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return how the features were computed, as JSON values.

        Returns:
            All but features and images: the provenance, the shapes of the modules' rows, and the
            options.

        Example:
            ```python
            from thingsvision_client import Client

            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
            print(extraction.to_dict()["model"], extraction.to_dict()["modules"])
            ```

        """
        return {
            **self.provenance.to_dict(),
            "modules": {name: list(rows.shape[1:]) for name, rows in self.features.items()},
            "axes": {name: list(axes) for name, axes in self.axes.items()},
            "token_extraction": self.token_extraction,
            "batch_size": self.batch_size,
            "image_count": len(self.images),
            "skipped": [vars(image) for image in self.skipped],
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text, e.g. for the supplement of a paper.

        Returns:
            Indented JSON.

        Example:
            ```python
            from thingsvision_client import Client

            print(Client().extract("torchvision/alexnet", "photos", "features.10").to_json())
            ```

        """
        return json.dumps(self.to_dict(), indent=2)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what was pickled or copied; the names of rows are known again."""
        vars(self).update({"axes": {}, **state})
        _remember_names(self.features, self.images)

    def flattened(self) -> Extraction:
        """Return the same extraction with flat features.

        Returns:
            An extraction with images x (everything else, C order); the arrays share memory.

        Example:
            ```python
            from thingsvision_client import Client

            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
            print(extraction.flattened().features["features.10"].shape)
            ```

        """
        flat = {name: x.reshape(len(x), prod(x.shape[1:])) for name, x in self.features.items()}
        return replace(self, features=flat, axes=dict.fromkeys(flat, (FEATURES,)))


def extract_header(
    model: Model | str,
    modules: str | Sequence[str],
    queue: ImageQueue,
    options: ExtractOptions,
) -> pb.ExtractHeader:
    """Return the message that says what to extract. Raises InvalidRequestError."""
    names = [str(modules)] if isinstance(modules, str) else as_texts("modules", modules)
    if not names or len(set(names)) != len(names):
        raise InvalidRequestError(
            f"The modules must be at least one, each named once, got {names}."
        )
    header = pb.ExtractHeader(
        model=as_model(model).to_spec(), modules=names, **options.header_fields()
    )
    _set_input(header, queue, options.preprocessing)
    return header


def _set_input(
    header: pb.ExtractHeader,
    queue: ImageQueue,
    given: PreprocessingOverrides | Preprocessing | None,
) -> None:
    if queue.tensor_shape is None:
        set_preprocessing(header, given)
        return
    if given is not None and not given.is_empty:
        raise InvalidRequestError(
            "Arrays are preprocessed already, so `preprocessing` can't change them "
            f"({given}): send image files, or leave it out."
        )
    header.tensors.shape.extend(queue.tensor_shape)


def extract(
    connection: Connection,
    header: pb.ExtractHeader,
    queue: ImageQueue,
    *,
    on_error: str = STOP,
    progress: Progress | None = None,
) -> Extraction:
    """Return the features of all images in memory; each array is allocated once.

    Images that can't be used have no row; `on_error` is as in `bad_images`. Raises
    ThingsvisionError.
    """
    queue = prepare(header, queue, on_error)

    def on_count(count: int) -> None:
        if progress is not None:
            progress("extracting", count, queue.count)

    def receive(messages: Iterator[Any], unanswered: Unanswered) -> Extraction:
        if progress is not None:
            progress(loading(header.model.name), 0, None)
        reply = Reply(messages, unanswered=unanswered)
        _check(header, reply.header)
        if queue.count is not None:
            size = queue.count * _row_bytes(reply.header)
            check_fits(size, f"Features of {queue.count:,} images")
            note(progress, size_text(size))
        on_count(0)
        batches = _batches(reply, unanswered)
        images, features = collect(reply, batches, queue.count, on_count)
        _remember_names(features, images, are_inputs=queue.tensor_shape is not None)
        return Extraction(
            features=features,
            images=images,
            provenance=to_record(reply.header.provenance),
            timings=to_record(reply.trailer.timings),
            batch_size=reply.header.batch_size,
            token_extraction=TOKEN_NAMES.get(reply.header.token_extraction),
            axes=axes_of(reply.header),
            skipped=unanswered.skipped(),
        )

    result = _call(connection, header).result(queue, receive)
    settle(result.skipped, len(result.images), on_error, result=result)
    return result


def _row_bytes(header: pb.ExtractReplyHeader) -> int:
    """Return the bytes of all modules' rows of an image."""
    return sum(
        prod(column.shape) * np.dtype(DTYPES[column.element_type]).itemsize
        for column in header.columns
    )


def _remember_names(
    features: Mapping[str, Array], images: Sequence[str], *, are_inputs: bool = True
) -> None:
    """Remember the names of rows, so that files can have them; inputs may have only numbers."""
    if are_inputs and are_counted(images):
        return
    for array in features.values():
        if len(array) == len(images):
            remember_rows(array, images)


class FeatureStream(Shown):
    """Features as they arrive: an iterator of (image names, {module: rows x shape}).

    The arrays are read-only. Only a stream that was read to its end is proved complete. Nothing is
    sent before the first row, or an attribute, is requested; `close` ends the call.

    Attributes:
        places: Places of the rows returned last, in the list of images as given.

    Example:
        ```python
        from thingsvision_client import Client

        stream = Client().stream("torchvision/alexnet", "photos", ["features.3", "features.10"])
        print(stream.row_shapes, stream.provenance.model)
        for names, features in stream:
            print(len(names), features["features.10"].mean())
        ```

    """

    def _facts(self) -> dict[str, Any]:
        return {"model": model_id(self._asked.model), "modules": list(self._asked.modules)}

    def __init__(
        self,
        messages: Generator[Any, None, None],
        unanswered: Unanswered,
        asked: pb.ExtractHeader,
        on_error: str = STOP,
    ) -> None:
        self.places: list[int] = []
        self._on_error = on_error
        self._messages = messages
        self._unanswered = unanswered
        self._asked = asked
        self._batches: Iterator[Batch] | None = None
        self._process = os.getpid()
        self._is_settled = False

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"A FeatureStream can't be copied or pickled: {_ONE_PROCESS}")

    def __iter__(self) -> FeatureStream:
        return self

    def __next__(self) -> tuple[list[str], dict[str, Array]]:
        if self._process != os.getpid():
            raise InvalidRequestError(
                f"A FeatureStream must be read by the process that made it: {_ONE_PROCESS}"
            )
        try:
            modules = self.row_shapes
            if self._batches is None:
                self._batches = _batches(self._reply, self._unanswered)
            batch = next(self._batches, None)
            if batch is None:
                self._end()
        except BaseException:
            self.close()
            raise
        if batch is None:
            self.close()
            raise StopIteration
        names, rows = batch
        self.places = self._unanswered.last_places(len(names))
        return names, dict(zip(modules, rows, strict=True))

    def _end(self) -> None:
        """Report the images that were skipped, once. Raises BadImagesError."""
        if not self._is_settled:
            self._is_settled = True
            skipped = self.skipped
            settle(skipped, self.place_count - len(skipped), self._on_error)

    @cached_property
    def _reply(self) -> Reply:
        reply = Reply(self._messages, unanswered=self._unanswered)
        _check(self._asked, reply.header)
        return reply

    @cached_property
    def provenance(self) -> Provenance:
        """What computes the features: model, weights, preprocessing, device and versions."""
        provenance: Provenance = to_record(self._reply.header.provenance)
        return provenance

    @cached_property
    def row_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's features, per requested module, in order."""
        return {column.name: tuple(column.shape) for column in self._reply.header.columns}

    @cached_property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """What each axis of `row_shapes` is, as in Extraction."""
        return axes_of(self._reply.header)

    @cached_property
    def dtypes(self) -> dict[str, str]:
        """The numpy dtype of the values, per module."""
        columns = self._reply.header.columns
        return {column.name: DTYPES[column.element_type] for column in columns}

    @property
    def batch_size(self) -> int:
        """Number of images in a forward pass; 0 means as many as are ready."""
        return int(self._reply.header.batch_size)

    @property
    def skipped(self) -> tuple[BadImage, ...]:
        """The images without a row, as far as is known by now: place, name and reason of each."""
        return self._unanswered.skipped()

    @property
    def place_count(self) -> int:
        """Number of images sent by now, skipped ones included."""
        return self._unanswered.sent_count

    def close(self) -> None:
        """End the call, whose other rows are then lost.

        Example:
            ```python
            from thingsvision_client import Client

            stream = Client().stream("torchvision/alexnet", "photos", "features.10", batch_size=1)
            names, features = next(stream)
            stream.close()
            print(names)
            ```

        """
        self._messages.close()


def stream(
    connection: Connection,
    header: pb.ExtractHeader,
    queue: ImageQueue,
    *,
    on_error: str = STOP,
) -> FeatureStream:
    """Return the features of all images as they arrive. Its methods raise ThingsvisionError.

    `on_error` is as in `bad_images`.
    """
    queue = prepare(header, queue, on_error)
    messages, unanswered = _call(connection, header).open(queue)
    return FeatureStream(messages, unanswered, header, on_error)


def _batches(reply: Reply, unanswered: Unanswered) -> Iterator[Batch]:
    """Yield the rows of a reply, checked by image; warn of values lost at the end."""
    yield from check_names(reply.batches(), unanswered)
    _warn_of_overflow(reply.trailer)


def _warn_of_overflow(trailer: pb.ExtractTrailer) -> None:
    if trailer.overflow_count:
        warn_caller(
            f"{trailer.overflow_count:,} values are larger than float16 can hold (65504) and "
            "became infinite: request float32.",
        )


def axes_of(header: pb.ExtractReplyHeader) -> dict[str, tuple[str, ...]]:
    """Return what the axes of each column's rows are."""
    return {c.name: axis_names(c.axes, len(c.shape)) for c in header.columns}


def _check(asked: pb.ExtractHeader, given: pb.ExtractReplyHeader) -> None:
    """Raise UnsupportedError if the server does something else than it was asked for."""
    columns = given.columns
    answer = Answer(
        given.provenance,
        given.token_extraction,
        given.batch_size,
        element_types=[column.element_type for column in columns],
        modules=[column.name for column in columns],
        batch_limit=given.batch_limit,
    )
    check_answer(asked, answer)


def _call(connection: Connection, header: pb.ExtractHeader) -> ImageCall:
    return ImageCall(
        connection,
        connection.stubs.features.Extract,
        request=pb.ExtractRequest,
        header=header,
        model_id=model_id(header.model),
        skips_bad=header.skip_bad_images,
    )
