"""PCAs that a server fits on features of images and stores: each function is one call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..display.progress import Progress, loading_stage
from ..errors import BadImage, IncompleteReplyError, InvalidRequestError
from ..values.pca import PCA
from ..values.records import to_record
from ..values.tokens import TOKEN_EXTRACTIONS
from ..values.version import age_text
from .agreement import Answer, Difference, check_answer, raise_differences
from .bad_images import STOP, advise_to_skip, prepare, settle
from .call import Caller
from .connection import Connection
from .image_call import ImageCall
from .split_batches import warn_of_splits
from .unanswered import Unanswered, note_skipped
from .waits import is_wait, report_wait

if TYPE_CHECKING:  # it loads numpy
    from ..images.queue import ImageQueue

_STAGES = {pb.PCA_STAGE_COLLECTING: "collecting", pb.PCA_STAGE_FITTING: "fitting"}


def pca_header(
    extraction: pb.ExtractHeader, components: int, name: str, *, share: bool
) -> pb.FitPCAHeader:
    """Return the message that says what to fit. Raises InvalidRequestError."""
    if isinstance(components, bool) or not 1 <= components < 2**32:
        raise InvalidRequestError(f"`components` must be at least 1, got {components!r}.")
    return pb.FitPCAHeader(
        extraction=extraction, component_count=components, name=name, share=share
    )


def fit_pca(
    connection: Connection,
    header: pb.FitPCAHeader,
    queue: ImageQueue,
    *,
    on_error: str = STOP,
    progress: Progress | None = None,
) -> PCA:
    """Fit a PCA on the features of all images, and return it. Raises ThingsvisionError."""
    queue = prepare(header.extraction, queue, on_error)
    skipped: list[BadImage] = []

    def receive(replies: Iterator[Any], unanswered: Unanswered) -> PCA:
        if progress is not None:
            progress(loading_stage(header.extraction.model.name), 0, None)
        message = _receive(_say_waits(replies, header, progress), unanswered, progress)
        skipped[:] = unanswered.skipped()
        _check(header, message)
        fitted: PCA = to_record(message)
        return fitted

    method, model = connection.stubs.pcas.FitPCA, model_id(header.extraction.model)
    call = ImageCall(
        connection, method, request=pb.FitPCARequest, header=header, model_id=model,
        skips_bad=header.extraction.skip_bad_images,
    )  # fmt: skip
    with advise_to_skip(on_error):
        fitted = call.result(queue, receive)
    settle(skipped, fitted.image_count, on_error, result=fitted)
    return fitted


def _say_waits(
    replies: Iterator[Any], asked: pb.FitPCAHeader, progress: Progress | None
) -> Iterator[Any]:
    """Yield the replies, but report those that only say that the call waits."""
    for reply in replies:
        if is_wait(reply):
            report_wait(progress, reply.waiting, asked.extraction.model.name)
        else:
            yield reply


def _receive(replies: Iterator[Any], unanswered: Unanswered, progress: Progress | None) -> pb.PCA:
    """Return the PCA's message; report progress and note bad images meanwhile."""
    message: pb.PCA | None = None
    for reply in replies:
        if reply.WhichOneof("part") == "pca":
            message = reply.pca
        elif reply.WhichOneof("part") == "skipped":
            note_skipped(reply.skipped, unanswered)
        elif progress is not None and reply.progress.stage in _STAGES:
            state = reply.progress
            progress(_STAGES[state.stage], state.done_count, state.total_count or None)
    if message is None or message.image_count != len(list(unanswered)):
        raise IncompleteReplyError("The server did not confirm the PCA: fit it again.")
    return message


def _check(asked: pb.FitPCAHeader, given: pb.PCA) -> None:
    """Raise UnsupportedError if the server fitted something else than it was asked for.

    A PCA of that name for the same features is returned as it was fitted before.
    """
    names = [module.name for module in given.modules]
    tokens = TOKEN_EXTRACTIONS.get(given.token_extraction, 0)
    advice = ""
    if asked.name:
        advice = (
            f"The server returns a PCA {asked.name!r} that it has for these features as it was "
            f"fitted: delete it first (`delete_pca`), or choose another name. If that does not "
            f"help: {age_text(given.provenance.server_version)}"
        )
    found = [
        Difference(name, wanted, used)
        for name, wanted, used in (
            ("components", asked.component_count, given.component_count),
            ("name", asked.name, given.name),
            ("share", asked.share, asked.share and given.ownership.shared),
        )
        if wanted != used
    ]
    raise_differences(found, given.provenance.server_version, advice=advice)
    answer = Answer(given.provenance, tokens, given.batch_size, modules=names)
    check_answer(asked.extraction, answer, advice=advice)
    warn_of_splits(given.provenance.split_batches, given.batch_size)


class PCACalls:
    """Calls PCAService about fitted PCAs; the methods are those of `Client` by the same names."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def pcas(self) -> list[PCA]:
        """Return the PCAs on the server, the oldest first."""
        replies = self._caller.listen(self._pcas.ListPCAs, pb.ListPCAsRequest())
        return [to_record(reply.pca) for reply in replies]

    def delete_pca(self, pca: str) -> int:
        """Delete a PCA and return the number of bytes."""
        return int(self._caller.ask(self._pcas.DeletePCA, pb.DeletePCARequest(pca=pca)).freed_bytes)

    @property
    def _pcas(self) -> Any:
        return self._connection.stubs.pcas

    @property
    def _caller(self) -> Caller:
        return self._connection.caller
