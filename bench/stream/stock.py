"""Stock gRPC and stock protobuf stubs with messages of 1 MiB and untuned malloc; no features."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1 import thingsvision_pb2_grpc as pb_grpc

from ..cases import StreamCase
from ..worker import Case, Column, Result, main
from .rival import MESSAGE_BYTES, RivalServer, is_server, serve_until_input_ends

_LIMITS = [("grpc.max_receive_message_length", 2 * MESSAGE_BYTES)]


class Stock(Column):
    """Reads an array from each message, as the simplest client would."""

    _server: RivalServer | None = None

    def prepare(self, case: Case) -> None:
        """Start the server, and connect."""
        self._case = StreamCase(**case)
        if self._server is None:
            self._server = RivalServer("bench.stream.stock")
            self._channel = grpc.insecure_channel(f"127.0.0.1:{self._server.port}", _LIMITS)
            self._stub: Any = pb_grpc.FeatureServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def run(self) -> Result:
        """Receive as many bytes as the activations have, in whole messages."""
        header = pb.ExtractHeader(batch_size=-(-self._case.byte_count // MESSAGE_BYTES))
        received = 0
        for reply in self._stub.Extract(iter([pb.ExtractRequest(header=header)])):
            received += np.frombuffer(reply.frame.arrow_ipc, np.float32).nbytes
        assert received >= self._case.byte_count
        return {}

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._channel.close()
            self._server.close()


class _Frames(pb_grpc.FeatureServiceServicer):
    def Extract(self, request_iterator: Any, context: Any) -> Iterator[pb.ExtractResponse]:  # noqa: N802
        """Send as many messages as the header's batch size."""
        header = next(request_iterator).header
        payload = np.zeros(MESSAGE_BYTES // 4, np.float32)
        for index in range(header.batch_size):
            frame = pb.ArrowFrame(index=index, arrow_ipc=payload.tobytes())
            yield pb.ExtractResponse(frame=frame)


def _serve() -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    pb_grpc.add_FeatureServiceServicer_to_server(_Frames(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    serve_until_input_ends(port)


if __name__ == "__main__":
    _serve() if is_server() else main(Stock)
