"""The methods whose replies are Arrow frames, read without the copies that protobuf makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc

from thingsvision_proto.frames import reply_reader
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import FeatureServiceStub

_REPLIES: Mapping[str, Any] = {"Extract": pb.ExtractResponse, "ComputeRDM": pb.ComputeRDMResponse}


def feature_stub(channel: grpc.Channel) -> Any:
    """Return a stub of FeatureService: frames of Extract and ComputeRDM come as `Frame`."""
    service = pb.DESCRIPTOR.services_by_name["FeatureService"]
    stub: Any = FeatureServiceStub(channel)  # type: ignore[no-untyped-call]
    for name, reply in _REPLIES.items():
        asked = getattr(pb, service.methods_by_name[name].input_type.name)
        path = f"/{service.full_name}/{name}"
        read = reply_reader(reply.FromString)
        setattr(stub, name, channel.stream_stream(path, asked.SerializeToString, read))
    return stub
