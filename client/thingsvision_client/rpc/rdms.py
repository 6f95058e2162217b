"""The ComputeRDM call: sends images or the user's own features, returns RDMs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from thingsvision_proto.model_id import ANY_MODEL, model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.wire import ColumnSpec, FeatureWriter

from ..arrays import Array, as_numbers
from ..calls.arguments import choose
from ..calls.caller import warn_caller
from ..display.cards import Shown, array_texts
from ..display.progress import Progress, loading_stage
from ..errors import BadImage, IncompleteReplyError, InvalidRequestError, UndefinedDistanceWarning
from ..images.queue import ImageQueue
from ..labels import (
    are_counted,
    are_reordered,
    list_names,
    names_in,
    read_labelled,
    remember_rows,
    row_names,
    texts_of,
)
from ..values.provenance import Provenance
from ..values.records import Timings, to_record
from .agreement import Answer, Difference, check_answer, raise_differences
from .bad_images import STOP, advise_to_skip, prepare, settle
from .connection import Connection
from .image_call import ImageCall
from .replies import DTYPES, Reply, check_names, collect
from .split_batches import warn_of_splits
from .unanswered import Unanswered
from .waits import report_wait

METRICS = {
    name.removeprefix("METRIC_").lower(): number for name, number in pb.Metric.items() if number
}
ELEMENT_TYPES = {
    "float32": pb.ELEMENT_TYPE_FLOAT32,
    "float64": pb.ELEMENT_TYPE_FLOAT64,
}
_STAGES = {pb.RDM_STAGE_COLLECTING: "collecting", pb.RDM_STAGE_COMPARING: "comparing"}


@dataclass(frozen=True, repr=False)
class RDMs(Shown):
    """RDMs of the same images, and how they were computed.

    Attributes:
        rdms: An array of images x images per module (or array of features): symmetric, with a
            diagonal of 0.
        images: Names of the images.
        metric: `correlation`, `cosine`, `euclidean` or `gaussian`.
        undefined: For each RDM with any, the images without a defined distance, whose rows and
            columns are NaN.
        provenance: What computed the features; None for uploaded features.
        timings: Where the server spent its time, in seconds.
        skipped: Images that could not be used, which have no row: place, name and reason of each.
        batch_size: Images in a forward pass; 0 means as many as were ready, or uploaded features.
        arithmetic: For each RDM, how inner products were computed: `float64`, or `int8_residues`
            on a GPU with slow float64; empty if the server is older, or you computed the RDMs.

    Example:
        ```python
        from thingsvision_client import Client

        modules = ["features.3", "features.10"]
        rdms = Client().rdm("torchvision/alexnet", "photos", modules)
        for module, rdm in rdms.rdms.items():
            print(module, rdm.shape, rdm.max(), rdms.undefined.get(module, []))
        ```

    """

    rdms: dict[str, Array]
    images: list[str]
    metric: str
    undefined: dict[str, list[str]]
    provenance: Provenance | None
    timings: Timings
    skipped: tuple[BadImage, ...] = ()
    batch_size: int = 0
    arithmetic: dict[str, str] = field(default_factory=dict)

    def _facts(self) -> dict[str, Any]:
        return {
            "images": len(self.images),
            "metric": self.metric,
            **array_texts(self.rdms),
            "model": None if self.provenance is None else self.provenance.model,
            "undefined": {name: len(found) for name, found in self.undefined.items()},
        }

    def methods_text(self, *, bibtex: bool = True) -> str:
        """Return a paragraph for the methods section of a paper, and the works that it cites.

        Args:
            bibtex: Append the BibTeX entries of the works, after an empty line.

        Returns:
            The paragraph of `Provenance.methods_text`, with modules, number of images and metric.

        Raises:
            InvalidRequestError: The features were uploaded, so what computed them is not known.

        Example:
            ```python
            from thingsvision_client import Client

            print(Client().rdm("torchvision/alexnet", "photos", "features.10").methods_text())
            ```

        """
        if self.provenance is None:
            raise InvalidRequestError(
                "What computed these features is not known, since they were uploaded: call "
                "methods_text of the extraction that they come from."
            )
        return self.provenance.methods_text(
            bibtex=bibtex, modules=list(self.rdms), count=len(self.images), metric=self.metric
        )


def rdm_header(
    metric: str, dtype: str, extraction: pb.ExtractHeader | None = None
) -> pb.ComputeRDMHeader:
    """Return the message that says what to compare. Raises InvalidRequestError."""
    metric, dtype = choose("metric", metric, METRICS), choose("dtype", dtype, ELEMENT_TYPES)
    return pb.ComputeRDMHeader(
        metric=pb.Metric.Name(METRICS[metric]),
        element_type=ELEMENT_TYPES[dtype],
        extraction=extraction,
    )


def rdms_of_images(
    connection: Connection,
    header: pb.ComputeRDMHeader,
    queue: ImageQueue,
    *,
    on_error: str = STOP,
    progress: Progress | None = None,
) -> RDMs:
    """Return an RDM per module of the extraction in `header`. Raises ThingsvisionError."""
    queue = prepare(header.extraction, queue, on_error)
    call = ImageCall(
        connection,
        connection.stubs.features.ComputeRDM,
        request=pb.ComputeRDMRequest,
        header=header,
        model_id=model_id(header.extraction.model),
        skips_bad=header.extraction.skip_bad_images,
    )

    def receive(messages: Iterator[Any], names: Unanswered) -> RDMs:
        if progress is not None:
            progress(loading_stage(header.extraction.model.name), 0, None)
        return _receive(header, messages, names, progress)

    with advise_to_skip(on_error):
        result = call.result(queue, receive)
    settle(result.skipped, len(result.images), on_error, result=result)
    return result


def rdms_of_features(
    connection: Connection,
    header: pb.ComputeRDMHeader,
    features: Mapping[str, Array],
    *,
    names: Sequence[str],
    progress: Progress | None = None,
) -> RDMs:
    """Return an RDM per array of `features`, whose rows have `names`. Raises ThingsvisionError."""

    def requests() -> Iterator[pb.ComputeRDMRequest]:
        yield pb.ComputeRDMRequest(header=header)
        for index, frame in enumerate(_frames(features, names)):
            yield pb.ComputeRDMRequest(features=pb.ArrowFrame(index=index, arrow_ipc=frame))

    method = connection.stubs.features.ComputeRDM
    messages = connection.caller.exchange(method, requests(), ANY_MODEL)
    with closing(messages):
        return _receive(header, messages, Unanswered(names), progress)


def prepare_features(
    features: Array | Mapping[str, Array], names: Sequence[str] | None
) -> tuple[dict[str, Array], list[str]]:
    """Return features with equally many rows as float32 or float64, and a name per row.

    A single array becomes the column `features`. If no names are given, rows have the names that
    the features carry (an index of pandas, a coordinate of xarray), or of the images that they
    were extracted from; else 0, 1, ... Raises InvalidRequestError.
    """
    columns = dict(features) if isinstance(features, Mapping) else {"features": features}
    if names is None:
        names = _common_names(columns)
    else:
        names = texts_of(list_names("names", names))
        _check_contradiction(names, columns)
    arrays = {name: _as_float(name, array) for name, array in columns.items()}
    counts = {len(array) for array in arrays.values()} | (set() if names is None else {len(names)})
    if len(counts) != 1 or counts == {0}:
        shapes = {name: array.shape for name, array in arrays.items()}
        given = f", {len(names)} names" if names is not None else ""
        raise InvalidRequestError(
            f"Features must have the same number of rows, at least one, got {shapes}{given}."
        )
    return arrays, list(names) if names is not None else [str(row) for row in range(counts.pop())]


def _check_contradiction(names: Sequence[str], columns: Mapping[str, Any]) -> None:
    """Raise InvalidRequestError if features carry the same names in another order."""
    for column, value in columns.items():
        carried = row_names(value)
        if carried is None or len(set(carried)) < len(carried) or len(carried) != len(names):
            continue
        if are_reordered(names, carried):
            raise InvalidRequestError(
                f"`names` must agree with the names that features {column!r} carry, got another "
                "order: leave names out."
            )


def _common_names(columns: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names that all features have; None if some have none. Raises InvalidRequestError.

    Features of other images, or of the same in another order, can't be columns of one upload.
    """
    found = {name: names_in(one) for name, one in columns.items()}
    named = [name for name, names in found.items() if names is not None]
    if len({found[name] for name in named}) > 1:
        other = next(name for name in named if found[name] != found[named[0]])
        raise InvalidRequestError(
            f"Features {named[0]!r} and {other!r} must have rows of the same images in the same "
            "order, got other names of rows: call rdm_of for each, or pass names."
        )
    return found[named[0]] if named and len(named) == len(columns) else None


def _as_float(name: str, value: Any) -> Array:
    item = read_labelled(value)
    array = as_numbers(value if item is None else item.values, f"Features {name!r}")
    if array.ndim < 2:
        raise InvalidRequestError(
            f"Features {name!r} must be images x units, got shape {array.shape}."
        )
    return array if array.dtype in ("float32", "float64") else array.astype("float64")


def _frames(features: Mapping[str, Array], names: Sequence[str]) -> Iterator[bytes]:
    columns = [ColumnSpec(name, x.shape[1:], x.dtype.name) for name, x in features.items()]
    writer = FeatureWriter(columns)
    for pieces in chain(writer.write(names, list(features.values())), writer.finish()):
        yield b"".join(pieces)


def _receive(
    asked: pb.ComputeRDMHeader,
    messages: Iterator[Any],
    names: Unanswered,
    progress: Progress | None,
) -> RDMs:

    def on_wait(waiting: pb.Waiting) -> None:
        report_wait(progress, waiting, asked.extraction.model.name)

    reply = Reply(messages, partial(_report, progress), names, on_wait)
    _check(asked, reply.header)
    batches = check_names(reply.batches(), names)
    images, rdms = collect(reply, batches, expected_count=len(list(names)))
    if any(rdm.shape != (len(images), len(images)) for rdm in rdms.values()):
        raise IncompleteReplyError("The RDMs of the reply are not images x images.")
    if not are_counted(images):
        for rdm in rdms.values():
            remember_rows(rdm, images)
    undefined = {one.column: list(one.images) for one in reply.trailer.undefined if one.images}
    _warn_undefined(undefined)
    has_model = reply.header.HasField("provenance")
    return RDMs(
        rdms=rdms,
        images=images,
        metric=pb.Metric.Name(reply.header.metric).removeprefix("METRIC_").lower(),
        undefined=undefined,
        provenance=to_record(reply.header.provenance) if has_model else None,
        timings=to_record(reply.trailer.timings),
        skipped=names.skipped(),
        batch_size=reply.header.batch_size,
        arithmetic=_arithmetic(reply.header),
    )


def _report(progress: Progress | None, message: pb.RDMProgress) -> None:
    if progress is not None and message.stage in _STAGES:
        progress(_STAGES[message.stage], message.done_count, message.total_count or None)


def _arithmetic(header: pb.ComputeRDMReplyHeader) -> dict[str, str]:
    """Return the arithmetic by column; empty if the server is too old to tell."""
    names = [column.name for column in header.columns]
    return dict(zip(names, header.arithmetic, strict=True)) if header.arithmetic else {}


def _check(asked: pb.ComputeRDMHeader, given: pb.ComputeRDMReplyHeader) -> None:
    """Raise UnsupportedError if the server computed something else than it was asked for."""
    found = []
    if asked.metric != given.metric:
        found.append(Difference("metric", *map(pb.Metric.Name, (asked.metric, given.metric))))
    wanted = DTYPES[asked.element_type]
    used = {DTYPES[column.element_type] for column in given.columns}
    found += [Difference("dtype", wanted, dtype) for dtype in used if dtype != wanted]
    raise_differences(found, given.provenance.server_version)
    if asked.HasField("extraction"):
        tokens, size = given.token_extraction, given.batch_size
        modules = [column.name for column in given.columns]
        limit = given.batch_limit
        answer = Answer(given.provenance, tokens, size, modules=modules, batch_limit=limit)
        check_answer(asked.extraction, answer)
        warn_of_splits(given.provenance.split_batches, size)


def _warn_undefined(undefined: Mapping[str, Sequence[str]]) -> None:
    for column, images in undefined.items():
        warn_caller(
            f"In the RDM of {column!r}, {len(images)} images have no defined distance to others "
            f"(NaN): {', '.join(images)}.",
            UndefinedDistanceWarning,
        )
