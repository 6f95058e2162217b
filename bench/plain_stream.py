"""A server that only streams: frames of zeros through stock stubs; knows no model.

Run by itself it prints its port and serves until it is terminated. What a client gets from it
is what gRPC alone gives on this machine.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1 import thingsvision_pb2_grpc as pb_grpc
from thingsvision_proto.wire import FRAME_BYTES


class _Frames(pb_grpc.FeatureServiceServicer):
    def Extract(self, request_iterator: Any, context: Any) -> Iterator[pb.ExtractResponse]:  # noqa: N802
        """Send as many frames as the header's batch size says."""
        header = next(request_iterator).header
        payload = bytes(FRAME_BYTES)
        for index in range(header.batch_size):
            frame = pb.ArrowFrame(index=index, arrow_ipc=payload)
            yield pb.ExtractResponse(frame=frame)


@contextmanager
def stream_server() -> Iterator[str]:
    """Run the server as a process of its own and give its address."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def receive(channel: grpc.Channel, byte_count: int) -> int:
    """Receive `byte_count` bytes, rounded up to whole frames; return how many came."""
    header = pb.ExtractHeader(batch_size=-(-byte_count // FRAME_BYTES))
    stub: Any = pb_grpc.FeatureServiceStub(channel)  # type: ignore[no-untyped-call]
    replies = stub.Extract(iter([pb.ExtractRequest(header=header)]))
    return sum(len(reply.frame.arrow_ipc) for reply in replies)


def main() -> None:
    """Serve on a free port and print it."""
    server = grpc.server(ThreadPoolExecutor(2))
    pb_grpc.add_FeatureServiceServicer_to_server(_Frames(), server)  # type: ignore[no-untyped-call]
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
