"""PCAs that a server fits on features of images and keeps: each method is one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import PCAServiceStub

from ..errors import IncompleteReplyError, InvalidRequestError
from ..images.queue import ImageQueue, Images, kept_queue
from ..values.model import Model
from ..values.records import PCA, to_record
from .call import Caller
from .image_call import ImageCall
from .kept_images import KeptImages

if TYPE_CHECKING:  # it loads pyarrow
    from ..values.preprocessing import PreprocessingOverrides
    from ..values.reductions import Reduction

_STAGES = {pb.PCA_STAGE_COLLECTING: "collecting", pb.PCA_STAGE_FITTING: "fitting"}


class PCAControl:
    """Calls the part of a server that fits PCAs; every method raises ThingsvisionError."""

    def __init__(self, caller: Caller, channel: Any, kept: KeptImages) -> None:
        self._caller = caller
        self._kept = kept
        self._pcas: Any = PCAServiceStub(channel)  # type: ignore[no-untyped-call]

    def fit_pca(
        self,
        model: Model | str,
        images: Images | ImageQueue,
        modules: str | Sequence[str],
        *,
        components: int,
        name: str = "",
        batch_size: int | None = None,
        token_extraction: str | None = None,
        preprocessing: PreprocessingOverrides | None = None,
        precision: str = "float32",
        deterministic: bool = False,
        reduction: Reduction | None = None,
        memory_format: str = "contiguous",
        compiled: bool = False,
        progress: Callable[[str, int, int | None], None] | None = None,
    ) -> PCA:
        """Fit a PCA of each module on the features of images, which stay on the server.

        The server keeps it, for `Reduction(pca=...)` with its `sha256` or `name`. `name` may be
        that of the set of images, and stand for a PCA of each model; the same call again returns
        what is there. `components` are at most the values of a module, and one less than images.
        `reduction` is done before, and all else is as in `extract`: features that are to be
        reduced need the same. The PCA is exact: mean and principal axes, sums in float64.
        """
        from .extraction import ExtractOptions, extract_header

        if isinstance(components, bool) or not 1 <= components < 2**32:
            raise InvalidRequestError(f"components is at least 1, not {components!r}.")
        options = ExtractOptions(
            batch_size,
            token_extraction,
            preprocessing,
            precision,
            deterministic=deterministic,
            reduction=reduction,
            memory_format=memory_format,
            compiled=compiled,
        )
        queue = kept_queue(images, self._kept)
        extraction = extract_header(model, modules, queue, options)
        header = pb.FitPCAHeader(extraction=extraction, component_count=components, name=name)
        return _fit(self._caller, self._pcas.FitPCA, header, queue, progress)

    def pcas(self) -> list[PCA]:
        """Return the PCAs that the server keeps, the oldest first."""
        replies = self._caller.listen(self._pcas.ListPCAs, pb.ListPCAsRequest())
        return [to_record(reply.pca) for reply in replies]

    def delete_pca(self, pca: str) -> int:
        """Delete a PCA by its SHA-256, or a name that only one has; return the bytes that it gave.

        Raises UnknownPCAError, and InvalidRequestError where several have the name.
        """
        return int(self._caller.ask(self._pcas.DeletePCA, pb.DeletePCARequest(pca=pca)).freed_bytes)


def _fit(
    caller: Caller,
    method: Any,
    header: pb.FitPCAHeader,
    queue: ImageQueue,
    progress: Callable[[str, int, int | None], None] | None,
) -> PCA:
    def receive(replies: Iterator[Any], sent: ImageQueue) -> PCA:
        fitted = None
        for reply in replies:
            if reply.WhichOneof("part") == "pca":
                fitted = to_record(reply.pca)
            elif progress is not None and reply.progress.stage in _STAGES:
                told = reply.progress
                progress(_STAGES[told.stage], told.done_count, told.total_count or None)
        if not isinstance(fitted, PCA) or fitted.image_count != len(sent.unanswered):
            raise IncompleteReplyError("The server did not confirm the PCA: fit it again.")
        return fitted

    model = model_id(header.extraction.model)
    return ImageCall(caller, method, pb.FitPCARequest, header, model).result(queue, receive)
