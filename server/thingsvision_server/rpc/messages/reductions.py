"""Converts between messages about reductions and PCAs and the types of the engine."""

from __future__ import annotations

from collections.abc import Mapping

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ...engine.pca.fitted import PCA, PCARecord
from ...engine.reduction import NO_REDUCTION, Projection, Reduction
from ...sources.base import ModelKey
from .models import decode_enum, model_spec, preprocessing_message

_POOLS: Mapping[pb.Pool, str] = {
    pb.POOL_UNSPECIFIED: "",
    pb.POOL_MEAN: "mean",
    pb.POOL_MAX: "max",
}


def read_reduction(message: pb.Reduction) -> Reduction:
    """Return the reduction that a message asks for, without any PCA."""
    projection = None
    if message.HasField("projection"):
        projection = Projection(message.projection.component_count, message.projection.seed)
    return Reduction(
        pool=decode_enum("pool", message.pool, _POOLS),
        pool_axes=tuple(message.pool_axes),
        units=tuple(message.units),
        projection=projection,
    )


def reduction_message(reduction: Reduction, pca: PCA | None = None) -> pb.Reduction | None:
    """Return the message of a reduction; None if nothing is reduced."""
    if reduction == NO_REDUCTION and pca is None:
        return None
    message = pb.Reduction(pool_axes=reduction.pool_axes, units=reduction.units)
    message.pool = next(number for number, name in _POOLS.items() if name == reduction.pool)
    if reduction.projection is not None:
        message.projection.CopyFrom(pb.RandomProjection(**vars(reduction.projection)))
    if pca is not None:
        message.pca = pca.record.sha256
    return message


def pca_summary_message(record: PCARecord) -> pb.UsedPCA:
    """Return the summary of a PCA in a provenance; the fields have the same names."""
    description = record.description
    return pb.UsedPCA(
        sha256=record.sha256,
        name=record.name,
        component_count=description.component_count,
        image_count=description.image_count,
        images_sha256=description.images_sha256,
    )


def pca_message(record: PCARecord) -> pb.PCA:
    """Return the message of a PCA."""
    description, facts = record.description, record.description.facts
    return pb.PCA(
        sha256=record.sha256,
        name=record.name,
        component_count=description.component_count,
        image_count=description.image_count,
        images_sha256=description.images_sha256,
        modules=[pb.PCAModule(**vars(module)) for module in description.modules],
        provenance=pb.Provenance(
            model=model_spec(ModelKey.parse(facts.model)),
            model_sha256=facts.model_sha256,
            preprocessing=preprocessing_message(facts.preprocessing),
            device=description.device,
            framework=description.framework,
            server_version=description.server_version,
            deterministic=description.deterministic,
            cores=None if description.cores is None else pb.Cores(**description.cores),
            reduction=reduction_message(facts.reduction),
            split_batches=[pb.SplitBatch(**vars(split)) for split in description.split_batches],
            **facts.options.to_dict(),
        ),
        token_extraction=facts.token_extraction,
        batch_size=description.batch_size,
        size_bytes=record.size_bytes,
        fitted_unix_seconds=record.fitted_at,
        ownership=pb.Ownership(owners=record.owners, shared=record.is_shared),
    )
