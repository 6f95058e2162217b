"""Says at the start what the server is: where it listens, what it has, and who may come in."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import structlog

from ..backends.children.guests import describe_isolation
from ..host import core_count, host_memory, machine_core_count, machine_memory
from ..memory_shares import decode_bytes, host_budget_bytes, rdm_bytes, staging_bytes
from ..settings import Settings
from ..settings.listeners import is_loopback
from ..settings.sentences import listening_address, size_of
from ..version import server_version
from ..wiring import RunningServer

_MAX_FILES = 100_000
_FINEST_SHARE = 1000
_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".h5", ".keras", ".onnx", ".pt2")


def tell_start(settings: Settings, server: RunningServer) -> None:
    """Log the summary as one event; on a terminal, print it as lines."""
    found = summarise(settings, server)
    if settings.log_format == "console" or sys.stderr.isatty():
        width = max(map(len, found))
        lines = [f"  {name.replace('_', ' '):{width}}  {value}" for name, value in found.items()]
        title = f"thingsvision-server {server_version()}, process {os.getpid()}"
        print("\n".join([title, *lines]), file=sys.stderr, flush=True)
    else:
        version, process = server_version(), os.getpid()
        structlog.get_logger().info("started", version=version, process=process, **found)


def summarise(settings: Settings, server: RunningServer) -> Mapping[str, str]:
    """Return what there is to say, by its name."""
    device = server.residency.device
    metrics = listening_address(settings.metrics_host, server.metrics_port)
    return {
        "address": ", ".join(server.addresses),
        "device": device,
        "budget": _budget(settings, server),
        "cores": _cores(settings, device),
        "weights": _weights(settings.weights_dir.expanduser()),
        "downloads": "on: missing weights are downloaded"
        if settings.allow_download
        else "off: weights must be in the folder",
        "images": ", ".join(settings.image_root or ["only what clients send"]),
        "metrics": f"http://{metrics}/metrics" if server.metrics_port else "none",
        "access": _access(settings),
        "announced": _announced(server, settings),
        "isolation": f"uploaded programs run in processes of their own; {describe_isolation()}",
        "settings": str(settings.config or "no file"),
    }


def _budget(settings: Settings, server: RunningServer) -> str:
    total = size_of(host_memory().total_bytes)
    parts = {
        "models": server.residency.budget_bytes,
        "offloaded models": host_budget_bytes(settings, server.residency.device),
        "inputs and features": staging_bytes(settings),
        "decoding": decode_bytes(settings),
        "an RDM": rdm_bytes(settings),
    }
    templates = server.residency.template_bytes
    parts |= {"templates of child processes, in the models' share": templates}
    shares = ", ".join(f"{size_of(count)} for {name}" for name, count in parts.items() if count)
    return f"{shares}; RAM: {total}{_share(settings, size_of(machine_memory().total_bytes))}"


def _share(settings: Settings, whole: str) -> str:
    """Return of what something is this server's share; empty without one."""
    if settings.node_share is None:
        return ""
    share = Fraction(settings.node_share).limit_denominator(_FINEST_SHARE)
    return f", {share} of {whole}"


def _cores(settings: Settings, device: str) -> str:
    cores = core_count()
    lanes = min(settings.cpu_lanes, cores) if device == "cpu" else settings.gpu_lanes
    share = _share(settings, str(machine_core_count()))
    return f"{cores}{share}; lanes: {lanes}, threads that decode: {settings.decode_threads}"


def _weights(folder: Path) -> str:
    """Return how many files of weights there are, without the images that clients sent."""
    count = size = seen = 0
    for place, folders, names in os.walk(folder):
        if Path(place) == folder:
            folders[:] = [name for name in folders if name not in ("images", "pca")]
        seen += len(names)
        for name in names:
            if name.endswith(_WEIGHTS) or (Path(place).name == "uploads" and "." not in name):
                count += 1
                size += _size(Path(place, name))
        if seen > _MAX_FILES:
            return f"{folder}: more than {count} files"
    files = f"{count} files, {size_of(size)}" if count else "no files yet"
    return f"{folder}: {files}"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _announced(server: RunningServer, settings: Settings) -> str:
    if settings.announce_dir is None:
        return "no: this server is alone"
    return f"as {server.address} in {settings.announce_dir}"


def _access(settings: Settings) -> str:
    """Return who may come in."""
    ways = []
    if settings.tcp:
        ways.append(_access_by_tcp(settings))
    if settings.mtls_port is not None:
        ways.append(f"with a certificate of {settings.client_ca}, encrypted")
    if settings.unix is not None:
        token = " and has a token" if settings.tokens else ""
        ways.append(f"by its socket, who may use the folder {settings.unix.parent}{token}")
    return "; ".join(ways)


def _access_by_tcp(settings: Settings) -> str:
    way = "encrypted" if settings.tls_cert else "without encryption"
    if settings.tokens is not None:
        return f"who has a token of {settings.tokens}, {way}"
    if is_loopback(settings.host):
        return f"every user of this machine, without a password; {way}"
    return f"everybody who can reach the address, without a password; {way}"
