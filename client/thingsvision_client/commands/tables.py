"""Replies of the server as columns for reading, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from ..values.pca import PCA
from ..values.records import ModelInfo, Residency, Upload

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
    """Yield the devices, then the models in their memory; sizes in MiB."""
    yield f"Server {server}"
    yield ""
    devices = (
        (
            device.name,
            _mib(device.used_bytes),
            _mib(device.reserved_bytes),
            _mib(device.budget_bytes),
        )
        for device in residency.devices
    )
    yield from columns(("device", "used MiB", "reserved MiB", "budget MiB"), devices)
    yield ""
    if not residency.models:
        yield "No model is in memory."
        return
    models = (
        (
            model.model_id,
            model.device,
            _mib(model.resident_bytes),
            f"{model.idle_seconds:.0f}",
            str(model.lease_count),
            "yes" if model.pinned else "",
        )
        for model in residency.models
    )
    heads = ("model in memory", "device", "MiB", "idle s", "requests", "pinned")
    yield from columns(heads, models)


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
        )
        for one in uploads
    )
    yield from columns(("SHA-256", "file", "format", "MiB", "uploaded (UTC)"), rows)


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
        )
        for one in pcas
    )
    heads = ("SHA-256", "name", "model", "modules", "images", "components", "MiB", "fitted (UTC)")
    yield from columns(heads, rows)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.0f}"


def _time(unix_seconds: float) -> str:
    return f"{datetime.fromtimestamp(unix_seconds, timezone.utc):%Y-%m-%d %H:%M}"
