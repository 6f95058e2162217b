"""The stubs of a server's services. Arrow frames come without the copies that protobuf makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from thingsvision_proto.frames import reply_reader
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1 import thingsvision_pb2_grpc

_FRAME_REPLIES: Mapping[str, Any] = {
    "Extract": pb.ExtractResponse,
    "ComputeRDM": pb.ComputeRDMResponse,
}


@dataclass(frozen=True)
class Stubs:
    """The methods of each service, by their names in the contract."""

    features: Any
    images: Any
    models: Any
    pcas: Any
    sharing: Any


def open_stubs(channel: grpc.Channel) -> Stubs:
    """Return the stubs of all services on a channel."""
    services: Any = thingsvision_pb2_grpc  # protoc writes no types for them
    return Stubs(
        features=_feature_stub(services.FeatureServiceStub(channel), channel),
        images=services.ImageServiceStub(channel),
        models=services.ModelServiceStub(channel),
        pcas=services.PCAServiceStub(channel),
        sharing=services.SharingServiceStub(channel),
    )


def _feature_stub(stub: Any, channel: grpc.Channel) -> Any:
    """Return the stub of FeatureService, with frames of Extract and ComputeRDM as `Frame`."""
    service = pb.DESCRIPTOR.services_by_name["FeatureService"]
    for name, reply in _FRAME_REPLIES.items():
        request = getattr(pb, service.methods_by_name[name].input_type.name)
        path = f"/{service.full_name}/{name}"
        read_reply = reply_reader(reply.FromString)
        method = channel.stream_stream(path, request.SerializeToString, read_reply)
        setattr(stub, name, method)
    return stub
