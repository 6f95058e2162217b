"""The Extract call: images out, features in; knows how neither is stored."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from .activations import Array, Reply, check_names, collect
from .call import Caller
from .errors import InvalidRequestError
from .images import ImageQueue
from .model import Model, as_model
from .preprocessing import PreprocessingOverrides
from .records import Provenance, Timings, to_record
from .tokens import TOKEN_NAMES, token_extraction_number

Progress = Callable[[str, int, "int | None"], None]
"""Hears a stage of the work, the units done, and the units in all where that is known."""


@dataclass(frozen=True)
class ExtractOptions:
    """What a user may choose about an extraction; None leaves it as it is.

    `token_extraction` is a key of `tokens.TOKEN_EXTRACTIONS`.
    """

    batch_size: int | None = None
    token_extraction: str | None = None
    preprocessing: PreprocessingOverrides | None = None


@dataclass(frozen=True)
class Extraction:
    """Features of images, and how they came about.

    `features` has an array of images x shape, float32, per module in the order asked for;
    row i is of `images[i]`. `batch_size` is that of the forward passes; 0: as many as were ready.
    `token_extraction` is what was taken of sequences of tokens; None: all of them.
    """

    features: dict[str, Array]
    images: list[str]
    provenance: Provenance
    timings: Timings
    batch_size: int
    token_extraction: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return how the features came about, as JSON knows it: all but features and images."""
        return {
            **self.provenance.to_dict(),
            "modules": {name: list(rows.shape[1:]) for name, rows in self.features.items()},
            "token_extraction": self.token_extraction,
            "batch_size": self.batch_size,
            "image_count": len(self.images),
        }

    def to_json(self) -> str:
        """Return the same as text, for the supplement of a paper."""
        return json.dumps(self.to_dict(), indent=2)

    def flattened(self) -> Extraction:
        """Return the same with images x (everything else, C order); arrays share memory."""
        flat = {name: x.reshape(len(x), prod(x.shape[1:])) for name, x in self.features.items()}
        return replace(self, features=flat)


def extract_header(
    model: Model | str,
    modules: str | Sequence[str],
    queue: ImageQueue,
    options: ExtractOptions,
) -> pb.ExtractHeader:
    """Return the message that says what to extract. Raises InvalidRequestError."""
    names = [modules] if isinstance(modules, str) else list(modules)
    if not names or len(set(names)) != len(names):
        raise InvalidRequestError(f"Name at least one module, and each once; not {names}.")
    batch_size = options.batch_size
    if batch_size is not None and not 1 <= batch_size < 2**32:
        raise InvalidRequestError(f"batch_size is at least 1, not {batch_size}.")
    header = pb.ExtractHeader(
        model=as_model(model).to_spec(),
        modules=names,
        batch_size=batch_size or 0,
        token_extraction=token_extraction_number(options.token_extraction),
    )
    _set_input(header, queue, options.preprocessing)
    return header


def _set_input(
    header: pb.ExtractHeader, queue: ImageQueue, overrides: PreprocessingOverrides | None
) -> None:
    changed = overrides is not None and not overrides.is_empty
    if queue.tensor_shape is not None:
        if changed:
            raise InvalidRequestError(
                "Arrays are inputs already, so nothing can change their preprocessing "
                f"({overrides}): send image files, or leave it out."
            )
        header.tensors.shape.extend(queue.tensor_shape)
    elif overrides is not None and changed:
        header.overrides.CopyFrom(overrides.to_message())


def extract(
    caller: Caller,
    method: Any,
    header: pb.ExtractHeader,
    queue: ImageQueue,
    *,
    progress: Progress | None = None,
) -> Extraction:
    """Return the features of all images in memory; each array is allocated once.

    Raises ThingsvisionError.
    """

    def on_count(count: int) -> None:
        if progress is not None:
            progress("extracting", count, queue.count)

    with closing(_exchange(caller, method, header, queue)) as messages:
        reply = Reply(messages)
        warn_if_lowered(header.batch_size, reply.header.batch_size)
        batches = check_names(reply.batches(), queue.unanswered)
        images, features = collect(reply, batches, queue.count, on_count)
    return Extraction(
        features=features,
        images=images,
        provenance=to_record(reply.header.provenance),
        timings=to_record(reply.trailer.timings),
        batch_size=reply.header.batch_size,
        token_extraction=TOKEN_NAMES.get(header.token_extraction),
    )


def stream(
    caller: Caller, method: Any, header: pb.ExtractHeader, queue: ImageQueue
) -> Iterator[tuple[list[str], dict[str, Array]]]:
    """Yield image names and their rows per module as they arrive. Raises ThingsvisionError."""
    with closing(_exchange(caller, method, header, queue)) as messages:
        reply = Reply(messages)
        warn_if_lowered(header.batch_size, reply.header.batch_size)
        for names, rows in check_names(reply.batches(), queue.unanswered):
            yield names, dict(zip(header.modules, rows, strict=True))


def warn_if_lowered(asked: int, given: int) -> None:
    """Warn where a limit of the server lowered the batch size: bits may differ from elsewhere."""
    if asked and given != asked:
        warnings.warn(
            f"The server lowered batch_size from {asked} to {given}, its limit.", stacklevel=4
        )


def _exchange(caller: Caller, method: Any, header: pb.ExtractHeader, queue: ImageQueue) -> Any:
    def requests() -> Iterator[pb.ExtractRequest]:
        yield pb.ExtractRequest(header=header)
        for image in queue.messages():
            yield pb.ExtractRequest(image=image)

    return caller.exchange(method, requests(), model_id(header.model))
