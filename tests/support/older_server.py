"""A server whose contract lacks some fields: gRPC before a real server, which drops them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from thingsvision_proto.model_id import REQUEST_ID_KEY
from thingsvision_proto.v1 import thingsvision_pb2 as pb

OLDER = "0.0.9"
"""The version that such a server tells."""


class _OlderContract:
    """Messages of the contract without the fields `missing`, by message.

    The fields are cleared: messages of a pool of descriptors of its own end the process now and
    then when several threads read them (protobuf 7.36).
    """

    def __init__(self, missing: Mapping[str, Collection[str]]) -> None:
        for name, fields in missing.items():
            known = pb.DESCRIPTOR.message_types_by_name[name].fields_by_name
            assert set(fields) <= set(known), "a field that never was"
        self._missing = missing

    def reads(self, name: str) -> Callable[[bytes], bytes]:
        """Return a function that reads a message as this contract does: the rest is ignored."""
        kind = GetMessageClass(pb.DESCRIPTOR.pool.FindMessageTypeByName(name))
        has_header = "header" in kind.DESCRIPTOR.fields_by_name

        def read(content: bytes) -> bytes:
            message: Any = kind.FromString(content)
            if has_header and message.HasField("header"):
                header = message.header
                if "provenance" in header.DESCRIPTOR.fields_by_name:
                    header.provenance.server_version = OLDER
            self._drop(message)
            kept: bytes = message.SerializeToString()
            return kept

        return read

    def _drop(self, message: Message) -> None:
        """Clear the fields of a message, and of those within it, that this contract lacks."""
        for field in self._missing.get(message.DESCRIPTOR.name, ()):
            message.ClearField(field)
        for field, value in message.ListFields():
            for part in _messages(field, value):
                self._drop(part)


def _messages(field: FieldDescriptor, value: Any) -> Iterator[Message]:
    """Yield the messages in the value of a field: one, several, or those of a map."""
    if field.message_type is None:
        return
    if isinstance(value, Message):
        yield value
    elif not field.message_type.GetOptions().map_entry:
        yield from value
    elif field.message_type.fields_by_name["value"].message_type is not None:
        yield from value.values()


class _Forwarding(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Hands every call on to a server, and its messages through an older contract."""

    def __init__(self, channel: grpc.Channel, contract: _OlderContract) -> None:
        self._channel, self._contract = channel, contract

    def service(self, details: Any) -> Any:
        _, service, name = details.method.split("/")
        method = pb.DESCRIPTOR.services_by_name[service.split(".")[-1]].methods_by_name[name]
        ask = self._contract.reads(method.input_type.full_name)
        answer = self._contract.reads(method.output_type.full_name)
        call = self._channel.stream_stream(details.method)

        def forward(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            metadata = [pair for pair in details.invocation_metadata if pair[0] == REQUEST_ID_KEY]
            replies = call(map(ask, requests), metadata=metadata)
            context.add_callback(replies.cancel)
            try:
                yield from map(answer, replies)
            except grpc.RpcError as error:
                context.set_trailing_metadata(error.trailing_metadata() or ())
                context.abort(error.code(), error.details())

        return grpc.stream_stream_rpc_method_handler(forward)


@contextmanager
def older_server(address: str, missing: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yield the address of a server that computes as the server at `address`.

    It knows none of the fields `missing`, by message: in requests and in replies.
    """
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=[_Forwarding(channel, _OlderContract(missing))])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(0).wait()
