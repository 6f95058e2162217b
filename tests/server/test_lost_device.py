"""A device that fails: errors of one request cost that request; a lost device ends the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.open_request import OpenRequest
from support.server_process import server_process
from support.sick_device import ASSERT, INVALID_ARGUMENT, OUT_OF_MEMORY, fall_sick
from thingsvision_client import Client, errors

MODEL = "torchvision/squeezenet1_1@random:0"
MODULE = "features.12"
SIDE = 64


def images(value: float, count: int = 2) -> Any:
    return np.full((count, 3, SIDE, SIDE), value, np.float32)


def health(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status)


def test_only_errors_that_poison_the_device_end_the_server(tmp_path: Path) -> None:
    with (
        server_process(tmp_path, before=fall_sick, exit_code=75) as server,
        Client(server.address) as client,
    ):
        expected = client.extract(MODEL, images(0.5), MODULE, batch_size=2).features[MODULE]
        with pytest.raises(errors.ServerError, match="request id"):
            client.extract(MODEL, images(INVALID_ARGUMENT), MODULE)
        with pytest.raises(errors.DeviceMemoryError, match="CUDA out of memory"):
            client.extract(MODEL, images(OUT_OF_MEMORY), MODULE)
        assert health(server.address) == health_pb2.HealthCheckResponse.SERVING
        again = client.extract(MODEL, images(0.5), MODULE, batch_size=2).features[MODULE]
        np.testing.assert_array_equal(again, expected)
        assert "device is lost" not in server.log

        running = OpenRequest(server.address)
        lost = r"cpu failed \(CUDA error: device-side assert triggered\), and this server's process"
        with pytest.raises(errors.DeviceLostError, match=lost):
            client.extract(MODEL, images(ASSERT), MODULE)
        # The open request keeps the server from ending at once.
        assert health(server.address) == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(errors.UnavailableError):
            client.extract(MODEL, images(0.5), MODULE)
        running.close()
        server.process.wait(30)
        assert '"the device is lost"' in server.log
        assert "Start the server again" in server.log.splitlines()[-1]
    # `server_process` asserts the exit code
