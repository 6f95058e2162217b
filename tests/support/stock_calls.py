"""Calls by the generated stubs alone: any messages, and how they are refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1 import thingsvision_pb2_grpc as pb_grpc

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Refusal:
    """How a call failed: status, sentence, `google.rpc` details by type, and trailers."""

    code: grpc.StatusCode
    sentence: str
    details: dict[str, Any]
    trailers: dict[str, Any]

    @property
    def reason(self) -> str:
        """The class of the error on the server."""
        reason: str = self.details["ErrorInfo"].reason
        return reason


class StockCaller:
    """The stubs of all services on a channel without any option."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stubs = (
            pb_grpc.FeatureServiceStub(channel),
            pb_grpc.ModelServiceStub(channel),
            pb_grpc.PCAServiceStub(channel),
            pb_grpc.ImageServiceStub(channel),
        )

    def call(self, method: str, request: Any, metadata: Metadata = ()) -> list[Any]:
        """Return all replies to a message, or to a list of messages."""
        started = self.start(method, request, metadata)
        return list(started) if hasattr(started, "__iter__") else [started]

    def start(self, method: str, request: Any, metadata: Metadata = ()) -> Any:
        stub = next(stub for stub in self._stubs if hasattr(stub, method))
        sent = iter(request) if isinstance(request, Iterable) else request
        return getattr(stub, method)(sent, metadata=metadata, timeout=120)

    def refusal(self, method: str, request: Any, metadata: Metadata = ()) -> Refusal:
        """Return how a call is refused; fail if it is not."""
        try:
            replies = self.call(method, request, metadata)
        except grpc.RpcError as error:
            return _refusal(error)
        raise AssertionError(f"{method} was not refused: {len(replies)} replies")


def _refusal(error: Any) -> Refusal:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    details = {}
    for packed in status.details:
        name = packed.TypeName().removeprefix("google.rpc.")
        details[name] = getattr(error_details_pb2, name)()
        packed.Unpack(details[name])
    if details:
        assert status.code == error.code().value[0]
        assert status.message == error.details()
    return Refusal(error.code(), error.details(), details, trailers)


@contextmanager
def stock_calls(address: str) -> Iterator[StockCaller]:
    """Open a caller of a server."""
    with grpc.insecure_channel(address) as channel:
        yield StockCaller(channel)


def spec(name: str = "squeezenet1_1", source: str = "torchvision", **weights: Any) -> pb.ModelSpec:
    """Return a small random network, or another model."""
    return pb.ModelSpec(source=source, name=name, **(weights or {"random_seed": 0}))


def extraction(*modules: str, model: pb.ModelSpec | None = None, **fields: Any) -> Any:
    """Return the header of an Extract request."""
    header = pb.ExtractHeader(model=model or spec(), modules=modules, **fields)
    return pb.ExtractRequest(header=header)


def image(index: int, name: str, encoded: bytes) -> Any:
    """Return an image of an Extract request."""
    return pb.ExtractRequest(image=pb.Image(index=index, name=name, encoded=encoded))
