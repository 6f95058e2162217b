"""Replies of the server as columns for reading, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from ..values.cached_images import CachedImage
from ..values.ownership import Ownership
from ..values.pca import PCA
from ..values.records import (
    Device,
    ModelInfo,
    PersonUse,
    Residency,
    ResidentModel,
    Upload,
    WaitingModel,
)

_MIB = 1024 * 1024
_UNKNOWN = "-"


def as_json(records: Any) -> str:
    """Return records, or a list of records, as JSON: everything that the server reports."""
    if isinstance(records, (list, tuple)):
        return json.dumps([asdict(one) for one in records], indent=2)
    return json.dumps(asdict(records), indent=2)


def columns(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a line of headings and a line per row, in columns; nothing is shortened."""
    lines = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(map(str.ljust, line, widths)).rstrip()


def model_lines(models: Iterable[ModelInfo]) -> Iterator[str]:
    """Yield a header and a line per model, in columns; weights and their state come last."""
    heads = ("model", "task", "parameters", "input", "weights (* default)")
    return columns(heads, map(_model_cells, models))


def _model_cells(model: ModelInfo) -> tuple[str, ...]:
    weights = ", ".join(
        f"{entry.tag}{'*' if entry.is_default else ''} ({entry.state})"
        for entry in model.pretrained
    )
    return (
        f"{model.source}/{model.name}",
        model.task or _UNKNOWN,
        f"{model.parameter_count:,}" if model.parameter_count else _UNKNOWN,
        " x ".join(map(str, model.input_shape)) or _UNKNOWN,
        weights or _UNKNOWN,
    )


def residency_lines(server: str, residency: Residency) -> Iterator[str]:
    """Yield the servers of a cluster, the devices, then the models in memory; sizes in MiB."""
    yield f"Server {server}"
    yield ""
    if len(residency.servers) > 1:
        yield from _server_lines(residency)
        yield ""
    yield from _device_lines(residency)
    yield ""
    if residency.models:
        yield from _model_lines(residency)
    else:
        yield "No model is in memory."
    if residency.waiting:
        yield ""
        yield from _waiting_lines(residency)
    if residency.people:
        yield ""
        yield from _people_lines(residency)


def rate_lines(before: Residency, residency: Residency, seconds: float) -> Iterator[str]:
    """Yield what each device has done since a view that is so many seconds old."""
    devices = (
        (
            *_place(residency, device),
            device.name,
            f"{(device.image_count - old.image_count) / seconds:,.1f}",
            f"{min(1.0, (device.busy_seconds - old.busy_seconds) / seconds):.0%}",
            f"{device.busy_lane_count} of {device.lane_count}",
            f"{device.waiting_image_count:,}",
        )
        for old, device in _same_devices(before, residency)
    )
    heads = (*_place_head(residency), "device", "images/s", "busy", "lanes", "images waiting")
    yield from columns(heads, devices)


def _same_devices(before: Residency, residency: Residency) -> Iterator[tuple[Device, Device]]:
    """Yield the devices of two views that are in both: servers come, go, and change places."""
    old = {(one.server, one.name): one for one in before.devices}
    for device in residency.devices:
        if (device.server, device.name) in old:
            yield old[device.server, device.name], device


def _server_lines(residency: Residency) -> Iterator[str]:
    """Yield the servers of a cluster; the first has answered."""
    servers = (
        (one.address, one.state, f"{one.silent_seconds:.0f}", one.version, one.host_name)
        for one in residency.servers
    )
    yield from columns(("server", "state", "heard s ago", "version", "machine"), servers)


def _place_head(residency: Residency) -> tuple[str, ...]:
    return ("server",) if len(residency.servers) > 1 else ()


def _place(
    residency: Residency, one: Device | PersonUse | ResidentModel | WaitingModel
) -> tuple[str, ...]:
    """Return the cell that says on which server of a cluster something is; none without one."""
    return (one.server,) if len(residency.servers) > 1 else ()


def _model_lines(residency: Residency) -> Iterator[str]:
    models = (
        (
            model.model_id,
            *_place(residency, model),
            model.device,
            _mib(model.resident_bytes),
            f"{model.idle_seconds:.0f}",
            str(model.lease_count),
            "yes" if model.pinned else "",
        )
        for model in residency.models
    )
    place = _place_head(residency)
    heads = ("model in memory", *place, "device", "MiB", "idle s", "requests", "pinned")
    yield from columns(heads, models)


def _waiting_lines(residency: Residency) -> Iterator[str]:
    """Yield the models that wait for memory, in the order of the queue, then why each waits."""
    models = (
        (
            one.model_id,
            *_place(residency, one),
            _mib(one.needed_bytes),
            f"{one.waiting_seconds:.0f}",
            str(one.request_count),
        )
        for one in residency.waiting
    )
    place = _place_head(residency)
    yield from columns(("model waiting for memory", *place, "MiB", "s", "requests"), models)
    yield from (one.reason for one in residency.waiting)


def _people_lines(residency: Residency) -> Iterator[str]:
    """Yield who uses the servers; device seconds and images are of the last minute."""
    people = (
        (
            one.name or _others(one.person_count),
            *_place(residency, one),
            str(one.call_count),
            f"{one.waiting_image_count:,}",
            f"{one.waiting_seconds:.1f}",
            f"{one.device_seconds:.1f}",
            f"{one.image_count:,}",
        )
        for one in residency.people
    )
    heads = ("calls", "images waiting", "longest s", "device s/min", "images/min")
    yield from columns(("person", *_place_head(residency), *heads), people)


def _others(count: int) -> str:
    """Return what stands in the place of the names of so many people."""
    return f"({count:,} {'other' if count == 1 else 'others'})"


def _device_lines(residency: Residency) -> Iterator[str]:
    devices = (
        (
            *_place(residency, device),
            device.name,
            _mib(device.used_bytes),
            _mib(device.reserved_bytes),
            _mib(device.budget_bytes),
        )
        for device in residency.devices
    )
    heads = (*_place_head(residency), "device", "used MiB", "reserved MiB", "budget MiB")
    yield from columns(heads, devices)
    for device in residency.devices:
        place = _place(residency, device)
        if device.hardware:
            visible = device.cuda_visible_devices
            chosen = f" (CUDA_VISIBLE_DEVICES={visible})" if visible else ""
            yield f"{' '.join([*place, device.name])} is {device.hardware}{chosen}."
        if device.template_bytes:
            whose = "".join(f" of {server}" for server in place)
            size = _mib(device.template_bytes)
            yield f"Templates of child processes{whose} take {size} MiB of the host's memory."


def upload_lines(server: str, uploads: Sequence[Upload]) -> Iterator[str]:
    """Yield a header and a line per uploaded file; sizes in MiB, times in UTC."""
    if not uploads:
        yield f"The server {server} has no uploads."
        return
    rows = (
        (
            one.sha256,
            one.name or _UNKNOWN,
            one.format,
            f"{one.size_bytes / _MIB:.1f}",
            _time(one.uploaded_unix_seconds),
            _owner(one.ownership),
        )
        for one in uploads
    )
    yield from columns(("SHA-256", "file", "format", "MiB", "uploaded (UTC)", "owner"), rows)


def pca_lines(server: str, pcas: Sequence[PCA]) -> Iterator[str]:
    """Yield a header and a line per PCA of a server; sizes in MiB, times in UTC."""
    if not pcas:
        yield f"The server {server} has no PCAs."
        return
    rows = (
        (
            one.sha256,
            one.name or _UNKNOWN,
            one.model_id,
            ", ".join(module.name for module in one.modules),
            f"{one.image_count:,}",
            str(one.component_count),
            f"{one.size_bytes / _MIB:.1f}",
            _time(one.fitted_unix_seconds),
            _owner(one.ownership),
        )
        for one in pcas
    )
    heads = (
        *("SHA-256", "name", "model", "modules", "images", "components", "MiB", "fitted (UTC)"),
        "owner",
    )
    yield from columns(heads, rows)


def image_lines(server: str, images: Sequence[CachedImage]) -> Iterator[str]:
    """Yield a header and a line per cached image of a server, then how many there are."""
    if not images:
        yield f"The server {server} has cached no images for you."
        return
    rows = ((one.sha256, f"{one.size_bytes:,}", _owner(one.ownership)) for one in images)
    yield from columns(("SHA-256", "bytes", "owner"), rows)
    yield f"{len(images):,} images, {sum(one.size_bytes for one in images):,} bytes"


def _owner(ownership: Ownership | None) -> str:
    return _UNKNOWN if ownership is None else str(ownership)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.0f}"


def _time(unix_seconds: float) -> str:
    return f"{datetime.fromtimestamp(unix_seconds, timezone.utc):%Y-%m-%d %H:%M}"
