"""Serves the services on one port, with health, reflection and a graceful shutdown."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1 import thingsvision_pb2_grpc as pb_grpc

from ..metrics import Metrics
from .feature_service import FeatureServicer
from .gate import Gate
from .image_service import ImageServicer
from .interceptors import CallInterceptor
from .model_service import ModelServicer
from .pca_service import PCAServicer

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_GRACE_SECONDS = 5.0
"""Time for a slow reader to receive what is in transit, and the status after it."""


class GrpcServer:
    """The services on one port."""

    def __init__(
        self,
        features: FeatureServicer,
        models: ModelServicer,
        images: ImageServicer,
        pcas: PCAServicer,
        metrics: Metrics,
        *,
        max_message_bytes: int,
    ) -> None:
        self._gate = Gate()
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        services = pb.DESCRIPTOR.services_by_name.values()
        self._services = [service.full_name for service in services]
        self._server = grpc.aio.server(
            interceptors=[CallInterceptor(metrics, self._gate)],
            options=list(_channel_options(max_message_bytes).items()),
        )
        pb_grpc.add_FeatureServiceServicer_to_server(features, self._server)
        pb_grpc.add_ModelServiceServicer_to_server(models, self._server)
        pb_grpc.add_ImageServiceServicer_to_server(images, self._server)
        pb_grpc.add_PCAServiceServicer_to_server(pcas, self._server)
        add_HealthServicer_to_server(self._health, self._server)
        names = [*self._services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)

    async def start(self, address: str) -> int:
        """Listen, report SERVING, and return the port; OSError if the port is taken."""
        try:
            port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"can't listen on {address}: {error}") from error
        await self._server.start()
        await self._set_health(_SERVING)
        return port

    async def stop(self, drain_seconds: float) -> None:
        """Refuse new calls, drain running calls for `drain_seconds`, and close."""
        await self._set_health(_NOT_SERVING)
        await self._gate.drain(drain_seconds)
        await self._server.stop(_GRACE_SECONDS)

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *self._services):
            await self._health.set(service, status)


def _channel_options(max_message_bytes: int) -> Mapping[str, int]:
    return {
        "grpc.so_reuseport": 0,  # so that a taken port fails
        "grpc.max_receive_message_length": max_message_bytes,
        "grpc.max_send_message_length": -1,
        "grpc.http2.max_frame_size": 1024 * 1024,
        # The lease of a client that vanished silently ends within a minute.
        "grpc.keepalive_time_ms": 30_000,
        "grpc.keepalive_timeout_ms": 20_000,
        "grpc.http2.ping_timeout_ms": 20_000,  # a minute by default, whatever the line above says
        "grpc.http2.min_ping_interval_without_data_ms": 10_000,
        "grpc.keepalive_permit_without_calls": 1,
    }
