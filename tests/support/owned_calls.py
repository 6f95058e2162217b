"""Messages of requests for a forward pass that name something stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from support.owned_things import Thing
from support.stock_calls import spec
from thingsvision_proto.v1 import thingsvision_pb2 as pb

SMALL = pb.PreprocessingOverrides(resize_pixels=[64], crop_pixels=[64])


def own_spec(thing: Thing) -> pb.ModelSpec:
    return pb.ModelSpec(source="own", name=thing.sha256)


def weights_spec(thing: Thing) -> pb.ModelSpec:
    return spec(weights_sha256=thing.sha256)


Spec = Callable[[Thing], pb.ModelSpec]


def header_of(model: pb.ModelSpec, module: str, **more: Any) -> pb.ExtractHeader:
    # A network of one's own has a size of its own.
    changes = {} if model.source == "own" else {"overrides": SMALL}
    return pb.ExtractHeader(model=model, modules=[module], **changes, **more)


def with_images(request: Any, header: Any, images: Sequence[pb.Image]) -> list[Any]:
    return [request(header=header), *(request(image=one) for one in images)]


def sent(files: list[bytes]) -> list[pb.Image]:
    return [
        pb.Image(index=number, name=str(number), encoded=one) for number, one in enumerate(files)
    ]


def extract(header: Any, images: Sequence[pb.Image]) -> list[Any]:
    return with_images(pb.ExtractRequest, header, images)


def rdm(header: Any, images: Sequence[pb.Image]) -> list[Any]:
    asked = pb.ComputeRDMHeader(metric=pb.METRIC_COSINE, extraction=header)
    return with_images(pb.ComputeRDMRequest, asked, images)


def fit(header: Any, images: Sequence[pb.Image]) -> list[Any]:
    asked = pb.FitPCAHeader(extraction=header, component_count=1)
    return with_images(pb.FitPCARequest, asked, images)


def preprocess(header: Any, images: Sequence[pb.Image]) -> list[Any]:
    return with_images(pb.PreprocessRequest, pb.PreprocessHeader(model=header.model), images)


PASSES = {"Extract": extract, "ComputeRDM": rdm, "FitPCA": fit, "Preprocess": preprocess}
