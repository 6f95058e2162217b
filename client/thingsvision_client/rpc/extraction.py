"""Features of images in memory, and how they were computed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..arrays import Array, RowStore
from ..calls.memory import check_fits, size_text
from ..display.cards import Shown, array_texts
from ..display.progress import Progress, loading_stage, note
from ..errors import BadImage
from ..images.queue import ImageQueue
from ..labels import are_counted, remember_rows
from ..values.axes import FEATURES
from ..values.options import ExtractOptions
from ..values.provenance import Provenance
from ..values.records import Timings, to_record
from ..values.tokens import TOKEN_NAMES
from .bad_images import STOP, prepare, settle
from .connection import Connection
from .extract_call import axes_of, check_header, make_call, provenance_of, rows_of
from .replies import DTYPES, Reply, collect
from .shards import Shards
from .unanswered import Unanswered
from .waits import report_wait


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
        inputs: What the rows are of, `images` or `texts`.

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
    inputs: str = "images"

    def _facts(self) -> dict[str, Any]:
        return {
            self.inputs: len(self.images),
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
            "skipped": [image.to_dict() for image in self.skipped],
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

    def methods_text(self, *, bibtex: bool = True) -> str:
        """Return a paragraph for the methods section of a paper, and the works that it cites.

        Args:
            bibtex: Append the BibTeX entries of the works, after an empty line.

        Returns:
            The paragraph of `Provenance.methods_text`, with modules, tokens and number of images.

        Example:
            ```python
            from thingsvision_client import Client

            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
            print(extraction.methods_text())
            ```

        """
        return self.provenance.methods_text(
            bibtex=bibtex,
            modules=list(self.features),
            count=len(self.images),
            inputs=self.inputs,
            token_extraction=self.token_extraction,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what was pickled or copied; the names of rows are known again."""
        vars(self).update({"axes": {}, "inputs": "images", **state})
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
    receive = partial(_receive, header, queue, progress)
    result = make_call(connection, header).result(queue, receive)
    settle(result.skipped, len(result.images), on_error, result=result)
    return result


def _receive(
    asked: pb.ExtractHeader,
    queue: ImageQueue,
    progress: Progress | None,
    messages: Iterator[Any],
    unanswered: Unanswered,
) -> Extraction:
    report = progress or _report_nothing
    report(loading_stage(asked.model.name), 0, None)

    def on_wait(waiting: pb.Waiting) -> None:
        report_wait(report, waiting, asked.model.name)

    reply = Reply(messages, unanswered=unanswered, on_wait=on_wait)
    check_header(asked, reply.header)
    _check_size(queue, reply.header, progress)

    def on_count(count: int) -> None:  # images that were skipped are done, too
        report("extracting", max(count, unanswered.place), queue.count)

    on_count(0)
    images, features = collect(reply, rows_of(reply, unanswered), queue.count, on_count)
    on_count(queue.count or len(images))
    _remember_names(features, images, are_inputs=queue.tensor_shape is not None)
    return Extraction(
        features=features,
        images=images,
        provenance=provenance_of(reply, reply.trailer.split_batches),
        timings=to_record(reply.trailer.timings),
        batch_size=reply.header.batch_size,
        token_extraction=TOKEN_NAMES.get(reply.header.token_extraction),
        axes=axes_of(reply.header),
        skipped=unanswered.skipped(),
    )


def extract_in_streams(
    connection: Connection,
    header: pb.ExtractHeader,
    queue: ImageQueue,
    *,
    options: ExtractOptions,
    on_error: str = STOP,
    progress: Progress | None = None,
) -> Extraction:
    """Return the features of all images in memory, of parts that are sent at the same time.

    The rest is as in `extract`.
    """
    queue = prepare(header, queue, on_error)
    report = progress or _report_nothing
    report(loading_stage(header.model.name), 0, None)
    may_mix = options.allow_mixed or not options.is_exact
    parts = Shards(connection, header, queue, options.streams, may_mix=may_mix)
    with closing(parts):
        reply = parts.open(lambda waiting: report_wait(report, waiting, header.model.name))
        _check_size(queue, reply.header, progress)
        report("extracting", 0, queue.count)
        stores = {
            column.name: RowStore(tuple(column.shape), DTYPES[column.element_type], queue.count)
            for column in reply.header.columns
        }
        images: list[str] = []
        while (found := parts.next_batch()) is not None:
            places, (names, rows) = found
            images.extend(names)
            for store, part in zip(stores.values(), rows, strict=True):
                store.append(part)
            report("extracting", places[-1] + 1, queue.count)
    report("extracting", queue.count or len(images), queue.count)
    features = {name: store.finish() for name, store in stores.items()}
    _remember_names(features, images, are_inputs=queue.tensor_shape is not None)
    result = Extraction(
        features=features,
        images=images,
        provenance=provenance_of(reply, parts.splits(), parts.servers()),
        timings=to_record(parts.timings),
        batch_size=reply.header.batch_size,
        token_extraction=TOKEN_NAMES.get(reply.header.token_extraction),
        axes=axes_of(reply.header),
        skipped=parts.skipped(),
    )
    settle(result.skipped, len(images), on_error, result=result)
    return result


def _check_size(
    queue: ImageQueue, header: pb.ExtractReplyHeader, progress: Progress | None
) -> None:
    """Check that the features will fit into memory, and show their size."""
    if queue.count is not None:
        size = queue.count * _row_bytes(header)
        check_fits(size, f"Features of {queue.count:,} images")
        note(progress, size_text(size))


def _report_nothing(stage: str, done: int, total: int | None) -> None:
    """Stand for the callback of a user who wants none."""


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
