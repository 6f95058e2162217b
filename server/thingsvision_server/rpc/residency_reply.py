"""Tells what is in the memory of this server, and of others as they announced it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..access.person import viewer
from ..cluster.announcement import ServerState
from ..cluster.membership import Membership
from ..cluster.watch import Sight
from ..engine.models.residency import Residency
from ..engine.passes.lanes import DeviceLanes
from ..monitoring.metrics import Metrics
from ..version import server_version
from .messages.models import resident_message, waiting_model_message
from .people_reply import people_messages, total_messages

_LIBRARIES = (
    *("numpy", "onnxruntime", "open-clip-torch", "pillow", "tensorflow", "timm", "torch"),
    *("torchvision", "transformers"),
)
"""What decodes and computes features, so that other versions may give other bits."""

_LOOK_SECONDS = 2.0
"""How long a call waits for a folder that does not answer; then it is told less."""

_STATES: Mapping[ServerState, pb.ServerState] = {
    ServerState.SERVING: pb.SERVER_STATE_SERVING,
    ServerState.DRAINING: pb.SERVER_STATE_DRAINING,
}

_log = structlog.get_logger(__name__)


class ResidencyReply:
    """What GetResidency returns, and what this server announces of itself."""

    def __init__(
        self,
        residency: Residency,
        lanes: DeviceLanes,
        metrics: Metrics,
        membership: Membership,
        *,
        cuda_visible_devices: str,
    ) -> None:
        self._residency = residency
        self._lanes = lanes
        self._metrics = metrics
        self._membership = membership
        self._visible = cuda_visible_devices
        self._libraries = [*_find_libraries()]
        self.is_draining = False

    @property
    def address(self) -> str:
        """The address that this server announces; empty if it does not."""
        return self._membership.address

    def to_json(self) -> Mapping[str, Any]:
        """Return what this server announces: of people only what they use together.

        The file may be read by all users of the machine.
        """
        reply = self._memory()
        reply.people.extend(total_messages(self._metrics.people.recent().values(), self.address))
        found: Mapping[str, Any] = MessageToDict(reply, preserving_proto_field_name=True)
        return found

    def own(self) -> pb.GetResidencyResponse:
        """Return what is in this server's memory, and whom it works for, as the caller may see."""
        reply, uses = self._memory(), self._metrics.people.recent()
        reply.people.extend(people_messages(uses, viewer(), self.address))
        return reply

    def _memory(self) -> pb.GetResidencyResponse:
        residency, address = self._residency, self.address
        models = [resident_message(one, residency.device) for one in residency.residents()]
        waiting = [
            waiting_model_message(one, place, residency.memory.describe(place).reason)
            for one, place in residency.waiting()
        ]
        for model in models:
            model.server = address
        for load in waiting:
            load.server = address
        return pb.GetResidencyResponse(
            models=models, devices=[self._device()], waiting=waiting, servers=[self._server_now()]
        )

    async def of_cluster(self) -> pb.GetResidencyResponse:
        """Return what is in the memory of all servers, first of this one."""
        reply = self.own()
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                others = await asyncio.to_thread(self._membership.others)
        except TimeoutError:
            _log.warning("the folder of announcements does not answer")
            others = self._membership.last_seen
        for other in others:
            _add(reply, other)
        return reply

    def _device(self) -> pb.Device:
        residency = self._residency
        return pb.Device(
            name=residency.device,
            budget_bytes=residency.budget_bytes,
            used_bytes=residency.used_bytes,
            reserved_bytes=residency.reserved_bytes,
            hardware=self._lanes.hardware,
            cuda_visible_devices=self._visible,
            lane_count=self._lanes.width,
            busy_lane_count=self._lanes.busy_count,
            busy_seconds=self._figure("device_busy_seconds_total"),
            waiting_image_count=int(self._figure("queue_depth")),
            image_count=int(self._figure("images_total")),
            template_bytes=residency.template_bytes,
            server=self.address,
        )

    def _server_now(self) -> pb.Server:
        server = self.server()
        is_draining = self.is_draining
        server.state = pb.SERVER_STATE_DRAINING if is_draining else pb.SERVER_STATE_SERVING
        return server

    def server(self) -> pb.Server:
        """Return what can change the bits of features of this server."""
        is_cpu = self._residency.device == "cpu"
        return pb.Server(
            address=self.address,
            version=server_version(),
            host_name=socket.gethostname(),
            hardware=self._lanes.hardware,
            cores=pb.Cores(count=self._lanes.lane_cores, tail_count=self._lanes.all_cores)
            if is_cpu
            else None,
            libraries=self._libraries,
        )

    def _figure(self, name: str) -> float:
        """Return a figure that the server publishes as a metric."""
        return self._metrics.registry.get_sample_value(f"thingsvision_{name}") or 0.0


def _find_libraries() -> list[str]:
    found = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def _add(reply: pb.GetResidencyResponse, other: Sight) -> None:
    """Add what another server announced; of one that is silent, only that it is."""
    address = other.announcement.address
    told = pb.GetResidencyResponse()
    try:
        ParseDict(dict(other.announcement.status), told, ignore_unknown_fields=True)
    except ParseError as error:
        _log.warning("an announcement can't be read", file=other.name, reason=str(error))
        told = pb.GetResidencyResponse()
    server = told.servers[0] if told.servers else pb.Server()
    server.address = address
    server.silent_seconds = other.unchanged_seconds
    server.state = _STATES[other.announcement.state]
    if not other.is_fresh:
        server.state = pb.SERVER_STATE_SILENT
        told = pb.GetResidencyResponse()
    reply.servers.append(server)
    for kind in ("models", "devices", "waiting", "people"):
        for one in getattr(told, kind):
            one.server = address
            getattr(reply, kind).append(one)
