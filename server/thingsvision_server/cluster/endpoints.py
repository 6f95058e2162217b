"""Writes the living servers as a gateway's list of endpoints, and as Prometheus's list of targets.

A list never becomes empty because files went missing or stale: then the folder may be what fails,
and the gateway's own health checks know better.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from .addresses import Endpoint, own_network, parse_endpoint
from .announcement import Announcement, ServerState
from .watch import AnnouncementWatch, Sight

_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

_log = structlog.get_logger(__name__)


def envoy_endpoints(servers: Iterable[Announcement], cluster_name: str) -> dict[str, Any]:
    """Return the content of a file of Envoy's endpoint discovery (EDS)."""
    endpoints = [_envoy_endpoint(server) for server in servers]
    assignment = {
        "@type": _TYPE,
        "cluster_name": cluster_name,
        "endpoints": [{"lb_endpoints": endpoints}],
    }
    return {"resources": [assignment]}


def _envoy_endpoint(server: Announcement) -> dict[str, Any]:
    is_draining = server.state is ServerState.DRAINING
    return {
        "endpoint": {"address": _envoy_address(server.endpoint)},
        **({"health_status": "DRAINING"} if is_draining else {}),
    }


def _envoy_address(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.path:
        return {"pipe": {"path": endpoint.path}}
    return {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}


def prometheus_targets(servers: Iterable[Announcement]) -> list[dict[str, Any]]:
    """Return the content of a file of Prometheus's file_sd, with each server's address as label.

    Pages that only another machine reaches are left out.
    """
    network = own_network()
    return [
        {"targets": [server.metrics], "labels": {"server": server.address}}
        for server in servers
        if server.metrics
        and (server.network == network or not parse_endpoint(server.metrics).is_local)
    ]


@dataclass(frozen=True)
class TargetFile:
    """A file that is kept current: its path, and what it says of servers."""

    path: Path
    describe: Callable[[Sequence[Announcement]], Any]

    def write(self, servers: Sequence[Announcement]) -> bool:
        """Move a new file into place if its content differs; return whether it did.

        Raises OSError.
        """
        content = (json.dumps(self.describe(servers), indent=1) + "\n").encode()
        if self.path.is_file() and self.path.read_bytes() == content:
            return False
        unfinished = self.path.with_name(f".{self.path.name}.new")
        unfinished.write_bytes(content)
        unfinished.replace(self.path)
        return True


class EndpointList:
    """Keeps files of the living servers current, by the announcements in a folder."""

    def __init__(self, watch: AnnouncementWatch, files: Sequence[TargetFile]) -> None:
        self._watch = watch
        self._files = files
        self._network = own_network()
        self._listed: dict[str, Announcement] = {}
        self._has_listed = False
        self._told: set[str] = set()

    def refresh(self) -> Sequence[Announcement]:
        """Read the folder, write the files that differ, and return the servers in them.

        Raises OSError.
        """
        seen = [one for one in self._watch.look() if self._is_reachable(one)]
        living = self._by_address(one for one in seen if one.is_fresh)
        self._listed = living or self._still_listed(seen)
        self._has_listed = self._has_listed or bool(living)
        servers = [self._listed[address] for address in sorted(self._listed)]
        for file in self._files:
            # What an earlier process listed stays until a server is found.
            may_write = self._has_listed or not file.path.exists()
            if may_write and file.write(servers):
                names = [server.address for server in servers]
                _log.info("the list was written", file=str(file.path), servers=names)
        return servers

    def _still_listed(self, seen: Sequence[Sight]) -> dict[str, Announcement]:
        """Return who was listed and has not left: nobody seems to live, so the folder may fail."""
        here = {one.announcement.address for one in seen}
        kept = {
            address: server
            for address, server in self._listed.items()
            if address in here or server.state is not ServerState.DRAINING
        }
        if kept:
            self._warn("no announcement changes any more; the list stays as it was", [*kept])
        return kept

    def _by_address(self, seen: Iterable[Sight]) -> dict[str, Announcement]:
        found: dict[str, Sight] = {}
        for one in seen:
            address = one.announcement.address
            other = found.setdefault(address, one)
            if other is not one:
                self._warn("two servers announce one address", [address, other.name, one.name])
                if one.unchanged_seconds < other.unchanged_seconds:
                    found[address] = one
        return {address: one.announcement for address, one in found.items()}

    def _is_reachable(self, one: Sight) -> bool:
        """Leave out servers that only their own machine reaches, if that is another."""
        server = one.announcement
        if not server.endpoint.is_local or server.network == self._network:
            return True
        self._warn(
            "a server announces an address that only its own machine reaches; give it another "
            "--host or --announce-address",
            [server.address, one.name],
        )
        return False

    def _warn(self, sentence: str, servers: Sequence[str]) -> None:
        """Say once what is wrong, and with which servers."""
        told = f"{sentence}: {servers}"
        if told not in self._told:
            self._told.add(told)
            _log.warning(sentence, servers=servers)
