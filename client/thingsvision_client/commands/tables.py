"""Replies of the server as lines and tables for reading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import datetime, timezone

from ..values.pca import PCA
from ..values.records import ModelInfo, Residency, Upload

_MIB = 1024 * 1024
_UNKNOWN = "-"


_COLUMNS = ("model", "task", "parameters", "input", "weights (* default)")


def model_lines(models: Iterable[ModelInfo]) -> Iterator[str]:
    """Yield a header and a line per model, in columns; weights and their state come last."""
    rows = [_COLUMNS, *map(_model_cells, models)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()


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


def models_json(models: Iterable[ModelInfo]) -> str:
    """Return everything the server reports about models, with preprocessing: a list of objects."""
    return json.dumps([asdict(model) for model in models], indent=2)


def print_residency(server: str, residency: Residency) -> None:
    """Print the devices and the models in their memory; sizes in MiB."""
    from rich.console import Console
    from rich.table import Table

    devices = Table("device", "used MiB", "reserved MiB", "budget MiB", title=f"Server {server}")
    for device in residency.devices:
        sizes = (device.used_bytes, device.reserved_bytes, device.budget_bytes)
        devices.add_row(device.name, *(f"{size / _MIB:.0f}" for size in sizes))
    heads = ("model", "device", "MiB", "idle s", "requests", "pinned")
    models = Table(*heads, title="In memory")
    for model in residency.models:
        cells = (
            model.model_id,
            model.device,
            f"{model.resident_bytes / _MIB:.0f}",
            f"{model.idle_seconds:.0f}",
            str(model.lease_count),
            "yes" if model.pinned else "",
        )
        models.add_row(*cells)
    console = Console()
    console.print(devices)
    console.print(models if residency.models else "No model is in memory.")


def print_uploads(server: str, uploads: list[Upload]) -> None:
    """Print the uploaded files; sizes in MiB, times in UTC."""
    from rich.console import Console
    from rich.table import Table

    heads = ("SHA-256", "file", "format", "MiB", "uploaded")
    table = Table(*heads, title=f"Uploads at {server}")
    table.columns[0].overflow = "fold"  # users copy it to name the file
    for one in uploads:
        when = datetime.fromtimestamp(one.uploaded_unix_seconds, timezone.utc)
        size = f"{one.size_bytes / _MIB:.1f}"
        cells = (one.sha256, one.name, one.format, size, f"{when:%Y-%m-%d %H:%M}")
        table.add_row(*cells)
    console = Console()
    console.print(table if uploads else "The server has no uploads.")


def print_pcas(server: str, pcas: list[PCA]) -> None:
    """Print the PCAs of a server; sizes in MiB, times in UTC."""
    from rich.console import Console
    from rich.table import Table

    heads = ("SHA-256", "name", "model", "modules", "images", "components", "MiB", "fitted")
    table = Table(*heads, title=f"PCAs at {server}")
    table.columns[0].overflow = "fold"  # users copy it to name the PCA
    for one in pcas:
        when = datetime.fromtimestamp(one.fitted_unix_seconds, timezone.utc)
        cells = (
            one.sha256,
            one.name,
            one.model_id,
            ", ".join(module.name for module in one.modules),
            f"{one.image_count:,}",
            str(one.component_count),
            f"{one.size_bytes / _MIB:.1f}",
            f"{when:%Y-%m-%d %H:%M}",
        )
        table.add_row(*cells)
    console = Console()
    console.print(table if pcas else "The server has no PCAs.")
