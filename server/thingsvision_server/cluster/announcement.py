"""What a server says of itself in its file: where it is, how it is, and what it holds.

A field that a reader does not know is ignored: a rolling upgrade has servers of two versions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from .addresses import Endpoint, parse_endpoint

FORMAT = 1
SUFFIX = ".json"


class ServerState(str, Enum):
    """Whether a server takes new calls."""

    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True)
class Announcement:
    """The content of one file.

    Attributes:
        address: Where gateways and clients reach the server: `IP:PORT`, or `unix:/PATH`.
        network: Who reaches the server if `address` is of one machine only: `own_network()`.
        process: A random word of the server's process, which a restart changes.
        beat: How often the file was written, from 1: what tells readers that the server lives.
        state: Whether it takes new calls.
        metrics: Where Prometheus finds its metrics, `IP:PORT`; empty if there is no such page.
        status: What the server tells about itself, as GetResidency has it, in JSON.

    """

    address: str
    network: str
    process: str
    beat: int
    state: ServerState
    metrics: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def endpoint(self) -> Endpoint:
        """Where the server is reached."""
        return parse_endpoint(self.address)

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        return json.dumps({"format": FORMAT, **asdict(self), "state": self.state.value}).encode()


def parse_announcement(content: bytes) -> Announcement:
    """Return the announcement in a file. Raises ValueError for any other content."""
    try:
        values = json.loads(content)
        announcement = Announcement(
            address=_text(values, "address"),
            network=_text(values, "network"),
            process=_text(values, "process"),
            beat=int(values["beat"]),
            state=ServerState(values["state"]),
            metrics=_text(values, "metrics"),
            status=dict(values["status"]),
        )
    except (KeyError, TypeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not an announcement: {error!r}") from error
    parse_endpoint(announcement.address)
    if announcement.metrics:
        parse_endpoint(announcement.metrics)
    return announcement


def file_name(address: str, network: str) -> str:
    """Return the name of a server's file: two machines may both announce 127.0.0.1:50051."""
    readable = re.sub(r"[^0-9A-Za-z.]+", "-", address).strip("-")[-100:]
    digest = hashlib.sha256(f"{network} {address}".encode()).hexdigest()
    return f"{readable}.{digest[:8]}{SUFFIX}"


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values[name]
    if not isinstance(value, str):
        raise TypeError(f"`{name}` must be a text, got {value!r}")
    return value
