"""The ComputeRDM reply: collects rows from images or frames, and sends their RDMs as Arrow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from functools import partial
from typing import Any, TypeVar

from structlog.contextvars import bind_contextvars

from thingsvision_proto.frames import frame_writer
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.wire import ColumnSpec, WireError

from ..engine.comparing import Comparer
from ..engine.extractor import Extractor
from ..engine.progress import Progress
from ..engine.waiting import Waiting
from ..errors import InvalidRequestError
from ..monitoring.metrics import Metrics
from ..rdm.compare import RDM
from .collecting import Arrays, RowCollection, collect_rows, open_collection
from .messages.extraction import (
    COMPARED_DTYPES,
    RDM_DTYPES,
    column_message,
    element_type,
    extract_spec,
    provenance,
    skipped_message,
    timings,
    token_number,
)
from .messages.models import decode_enum, waiting_message
from .replies import FrameReply, feature_columns, log_extraction, log_skipped
from .requests import RequestStream
from .sent_features import SentFeatures

_ROWS_AT_ONCE = 64

T = TypeVar("T")

_METRICS: Mapping[pb.Metric, str] = {
    pb.METRIC_CORRELATION: "correlation",
    pb.METRIC_COSINE: "cosine",
    pb.METRIC_EUCLIDEAN: "euclidean",
    pb.METRIC_GAUSSIAN: "gaussian",
}


class RDMReply:
    """Answers ComputeRDM."""

    def __init__(
        self,
        extractor: Extractor,
        comparer: Comparer,
        metrics: Metrics,
        *,
        fast_frames: bool = True,
    ) -> None:
        self._extractor = extractor
        self._comparer = comparer
        self._metrics = metrics
        self._write_frame = frame_writer(pb.ComputeRDMResponse, fast=fast_frames)

    async def stream(
        self, header: pb.ComputeRDMHeader, request: RequestStream
    ) -> AsyncGenerator[pb.ComputeRDMResponse | bytes]:
        """Yield progress, a header, the frames of the RDMs and a trailer."""
        metric, dtype = metric_name(header.metric), element_type(header.element_type, RDM_DTYPES)
        bind_contextvars(metric=metric)
        from_images = header.HasField("extraction")
        collect = self._collect_images if from_images else self._collect_features
        rdms: list[RDM] = []
        with ExitStack() as stack:
            async with aclosing(collect(header, request, stack)) as steps:
                async for step in steps:
                    if isinstance(step, Waiting):
                        yield pb.ComputeRDMResponse(waiting=waiting_message(step))
                        continue
                    collected = step
                    if collected.progress_is_due():
                        yield _progress(pb.RDM_STAGE_COLLECTING, len(collected.images), 0)
            async with aclosing(self._compare(collected, metric)) as results:
                async for result in results:
                    if isinstance(result, Progress):
                        counts = (result.done_count, result.total_count)
                        yield _progress(pb.RDM_STAGE_COMPARING, *counts)
                    else:
                        rdms = result
            for response in self._responses(collected, header.metric, dtype, rdms):
                yield response

    async def _collect_images(
        self, header: pb.ComputeRDMHeader, request: RequestStream, stack: ExitStack
    ) -> AsyncGenerator[RowCollection | Waiting]:
        """Collect the features of images; the model's lease ends with the last row."""
        bind_contextvars(modules=list(header.extraction.modules))
        element_type(header.extraction.element_type, COMPARED_DTYPES)
        async with self._extractor.open(extract_spec(header.extraction)) as opening:
            async with aclosing(opening.waits()) as waits:
                async for waiting in waits:
                    yield waiting
            extraction = await opening.begin()
            image_count = header.extraction.image_count
            open_spool = partial(self._comparer.open_spool, image_count=image_count)
            collected = open_collection(feature_columns(extraction), open_spool, stack)
            collected.extraction = extraction
            rows = self._extractor.rows(extraction, request.images())
            try:
                async with aclosing(collect_rows(rows, collected, self._check_size)) as steps:
                    async for step in steps:
                        yield step
            finally:
                log_extraction(extraction, 0.0)

    async def _collect_features(
        self, _header: pb.ComputeRDMHeader, request: RequestStream, stack: ExitStack
    ) -> AsyncGenerator[RowCollection | Waiting]:
        """Collect features that the client sends, decoding them in a thread."""
        sent = SentFeatures()
        collected: RowCollection | None = None
        async for frame in request.frames("features"):
            batches = await _in_thread(partial(sent.feed, frame))
            if collected is None and sent.columns is not None:
                _check_columns(sent.columns)
                collected = open_collection(sent.columns, self._comparer.open_spool, stack)
            if collected is None:
                continue
            for batch in batches:
                await collected.append(*batch, self._check_size)
                yield collected
        await _in_thread(sent.finish)
        if collected is None or not collected.images:
            raise InvalidRequestError("the features must have at least one row", field="features")
        yield collected

    def _check_size(self, collected: RowCollection, images: Sequence[str], _arrays: Arrays) -> None:
        image_count = len(collected.images) + len(images)
        self._comparer.check_size(image_count, len(collected.columns))

    def _compare(
        self, collected: RowCollection, metric: str
    ) -> AsyncGenerator[Progress | list[RDM]]:
        names = [column.name for column in collected.columns]
        bind_contextvars(images=len(collected.images), columns=names)
        return self._comparer.compare(collected.spool, names, metric)

    def _responses(
        self, collected: RowCollection, metric: pb.Metric, dtype: str, rdms: list[RDM]
    ) -> Any:
        images, extraction = collected.images, collected.extraction
        columns = [ColumnSpec(c.name, (len(images),), dtype) for c in collected.columns]
        reply = FrameReply(columns, self._metrics, self._write_frame)
        header = pb.ComputeRDMReplyHeader(
            metric=metric,
            columns=map(column_message, columns),
            arithmetic=[rdm.arithmetic for rdm in rdms],
        )
        if extraction is not None:
            header.provenance.CopyFrom(provenance(extraction))
            header.batch_size, header.batch_limit = extraction.batch_size, extraction.batch_limit
            header.token_extraction = token_number(extraction)
        if collected.skipped:
            log_skipped(collected.skipped)
            yield pb.ComputeRDMResponse(skipped=skipped_message(collected.skipped))
        yield pb.ComputeRDMResponse(header=header)
        for start in range(0, len(images), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            arrays = [rdm.distances[rows].astype(dtype, copy=False) for rdm in rdms]
            yield from reply.rows(images[rows], arrays)
        yield from reply.end()
        trailer = pb.ComputeRDMTrailer(
            **reply.totals(),
            undefined=_find_undefined_rows(collected, rdms),
            timings=timings(extraction, reply.send_seconds),
        )
        yield pb.ComputeRDMResponse(trailer=trailer)


def _progress(stage: pb.RDMStage, done_count: int, total_count: int) -> pb.ComputeRDMResponse:
    progress = pb.RDMProgress(stage=stage, done_count=done_count, total_count=total_count)
    return pb.ComputeRDMResponse(progress=progress)


def _find_undefined_rows(collected: RowCollection, rdms: list[RDM]) -> list[pb.UndefinedRows]:
    return [
        pb.UndefinedRows(column=column.name, images=[collected.images[i] for i in rdm.undefined])
        for column, rdm in zip(collected.columns, rdms, strict=True)
        if rdm.undefined
    ]


def _check_columns(columns: Sequence[ColumnSpec]) -> None:
    if not columns:
        raise InvalidRequestError("the features must have a column besides `image`")
    for column in columns:
        if column.dtype not in RDM_DTYPES:
            raise InvalidRequestError(
                f"column {column.name!r} must be float32 or float64, got {column.dtype}",
                field="features",
            )


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except WireError as error:
        raise InvalidRequestError(str(error), field="features") from error


def metric_name(value: pb.Metric) -> str:
    """Return the engine's name of a metric; raise if it is unknown."""
    return decode_enum("metric", value, _METRICS)
