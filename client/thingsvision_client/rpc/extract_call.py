"""The Extract call: what it asks for, and the checks of what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..calls.arguments import as_texts
from ..calls.caller import warn_caller
from ..errors import InvalidRequestError
from ..images.queue import ImageQueue
from ..values.axes import axis_names
from ..values.model import Model, as_model
from ..values.options import ExtractOptions
from ..values.preprocessing import Preprocessing, PreprocessingOverrides
from ..values.provenance import Provenance
from ..values.records import to_record
from ..values.servers import ServedRows
from .agreement import Answer, check_answer
from .connection import Connection
from .image_call import ImageCall
from .inputs import set_preprocessing
from .replies import Batch, Reply, check_names
from .split_batches import warn_of_splits
from .unanswered import Unanswered


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
    _set_cores(header, queue)
    return header


def _set_cores(header: pb.ExtractHeader, queue: ImageQueue) -> None:
    """Set what decides how many cores each pass uses: those of before, or the number of images."""
    if queue.cores is not None:
        header.cores.CopyFrom(pb.Cores(**vars(queue.cores)))
    elif header.batch_size:
        header.image_count = queue.count or queue.here_count


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


def rows_of(reply: Reply, unanswered: Unanswered) -> Iterator[Batch]:
    """Yield the rows of a reply, checked by image; warn of values lost at the end."""
    yield from check_names(reply.batches(), unanswered)
    warn_of_losses(
        reply.trailer.overflow_count, reply.trailer.split_batches, reply.header.batch_size
    )


def warn_of_losses(overflow_count: int, splits: Iterable[pb.SplitBatch], batch_size: int) -> None:
    """Warn of values that became infinite, and of batches that were split."""
    _warn_of_overflow(overflow_count)
    warn_of_splits(splits, batch_size)


def _warn_of_overflow(count: int) -> None:
    if count:
        warn_caller(
            f"{count:,} values are larger than float16 can hold (65504) and "
            "became infinite: request float32.",
        )


def provenance_of(
    reply: Reply, splits: Iterable[pb.SplitBatch], servers: Iterable[ServedRows] = ()
) -> Provenance:
    """Return the provenance of a reply's header, with the batches that were split since.

    `servers` computed the rows, if they came by several calls.
    """
    provenance: Provenance = to_record(reply.header.provenance)
    split = tuple(map(to_record, splits))
    return replace(provenance, split_batches=split, servers=tuple(servers))


def axes_of(header: pb.ExtractReplyHeader) -> dict[str, tuple[str, ...]]:
    """Return what the axes of each column's rows are."""
    return {c.name: axis_names(c.axes, len(c.shape)) for c in header.columns}


def check_header(
    asked: pb.ExtractHeader, given: pb.ExtractReplyHeader, *, warns: bool = True
) -> None:
    """Raise UnsupportedError if the server does something else than it was asked for.

    What may differ is warned of if it `warns`.
    """
    columns = given.columns
    answer = Answer(
        given.provenance,
        given.token_extraction,
        given.batch_size,
        element_types=[column.element_type for column in columns],
        modules=[column.name for column in columns],
        batch_limit=given.batch_limit,
    )
    check_answer(asked, answer, warns=warns)


def make_call(connection: Connection, header: pb.ExtractHeader) -> ImageCall:
    """Return the call of that header."""
    return ImageCall(
        connection,
        connection.stubs.features.Extract,
        request=pb.ExtractRequest,
        header=header,
        model_id=model_id(header.model),
        skips_bad=header.skip_bad_images,
    )
