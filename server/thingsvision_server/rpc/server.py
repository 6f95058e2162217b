"""Serves the services on addresses, with health, reflection and a graceful shutdown."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1 import thingsvision_pb2_grpc as pb_grpc

from .feature_service import FeatureServicer
from .gate import Gate
from .image_service import ImageServicer
from .interceptors import CallInterceptor
from .model_service import ModelServicer
from .pca_service import PCAServicer
from .sharing_service import SharingServicer

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_GRACE_SECONDS = 5.0
"""Time for a slow reader to receive what is in transit, and the status after it."""


@dataclass(frozen=True)
class Listener:
    """An address that the server listens on, as gRPC writes it; None is plain text.

    `mode` are the permissions of a socket.
    """

    address: str
    credentials: grpc.ServerCredentials | None = None
    mode: int = 0o600

    @property
    def path(self) -> Path | None:
        """The file of a socket, else None."""
        is_socket = self.address.startswith("unix:")
        return Path(self.address.removeprefix("unix:")) if is_socket else None


@dataclass(frozen=True)
class Services:
    """The services of the contract."""

    features: FeatureServicer
    models: ModelServicer
    images: ImageServicer
    pcas: PCAServicer
    sharing: SharingServicer

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let a server answer their calls."""
        pb_grpc.add_FeatureServiceServicer_to_server(self.features, server)
        pb_grpc.add_ModelServiceServicer_to_server(self.models, server)
        pb_grpc.add_ImageServiceServicer_to_server(self.images, server)
        pb_grpc.add_PCAServiceServicer_to_server(self.pcas, server)
        pb_grpc.add_SharingServiceServicer_to_server(self.sharing, server)


class GrpcServer:
    """The services, on one or several addresses."""

    def __init__(
        self, services: Services, interceptor: CallInterceptor, gate: Gate, max_message_bytes: int
    ) -> None:
        self._gate = gate
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._names = [one.full_name for one in pb.DESCRIPTOR.services_by_name.values()]
        self._server = grpc.aio.server(
            interceptors=[interceptor], options=list(_channel_options(max_message_bytes).items())
        )
        services.add_to(self._server)
        add_HealthServicer_to_server(self._health, self._server)
        names = [*self._names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)

    async def start(self, listeners: Sequence[Listener]) -> list[str]:
        """Listen, report SERVING, and return the addresses; OSError if an address is taken."""
        addresses = [self._listen(one) for one in listeners]
        await self._server.start()
        await self._set_health(_SERVING)
        return addresses

    def _listen(self, listener: Listener) -> str:
        address, path = listener.address, listener.path
        if path is not None:
            _remove_stale_socket(path)
        try:
            if listener.credentials is None:
                port: int = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, listener.credentials)
        except RuntimeError as error:
            raise OSError(f"can't listen on {address}: {error}") from error
        if path is not None:
            path.chmod(listener.mode)
            return address
        return f"{address.rpartition(':')[0]}:{port}"

    async def leave(self) -> None:
        """Report NOT_SERVING, so that gateways send no more calls; calls are still taken."""
        await self._set_health(_NOT_SERVING)

    async def stop(self, drain_seconds: float) -> None:
        """Refuse new calls, drain running calls for `drain_seconds`, and close."""
        await self.refuse(drain_seconds)
        await self._server.stop(_GRACE_SECONDS)

    async def refuse(self, drain_seconds: float) -> None:
        """Report NOT_SERVING and refuse new calls; let running calls end for `drain_seconds`."""
        await self._set_health(_NOT_SERVING)
        await self._gate.drain(drain_seconds)

    def running_calls(self) -> list[dict[str, Any]]:
        """Return what each call in progress is, the oldest first."""
        return [call.describe() for call in self._gate.calls]

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *self._names):
            await self._health.set(service, status)


def _remove_stale_socket(path: Path) -> None:
    """Remove the socket of a server that was killed; OSError if another server listens there."""
    if not path.is_socket():
        if path.exists() or path.is_symlink():
            raise OSError(f"can't listen on unix:{path}: another file has that name")
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise OSError(f"can't listen on unix:{path}: another server does")


def _channel_options(max_message_bytes: int) -> Mapping[str, int]:
    return {
        "grpc.so_reuseport": 0,  # so that a taken port fails
        "grpc.max_receive_message_length": max_message_bytes,
        "grpc.max_send_message_length": -1,
        "grpc.http2.max_frame_size": 1024 * 1024,
        # The call of a client that vanished silently, or was stopped, ends within a minute.
        "grpc.keepalive_time_ms": 30_000,
        "grpc.keepalive_timeout_ms": 20_000,
        "grpc.http2.ping_timeout_ms": 20_000,  # a minute by default, whatever the line above says
        "grpc.http2.min_ping_interval_without_data_ms": 10_000,
        "grpc.keepalive_permit_without_calls": 1,
    }
