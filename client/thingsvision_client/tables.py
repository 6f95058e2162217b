"""What a server tells, as lines and tables to read; knows no server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .records import ModelInfo, Residency

_MIB = 1024 * 1024


def model_lines(models: Iterable[ModelInfo]) -> Iterator[str]:
    """Yield `source/name`, and its weights with their state; the default ones have a star."""
    for model in models:
        weights = ", ".join(
            f"{entry.tag}{'*' if entry.is_default else ''} ({entry.state})"
            for entry in model.pretrained
        )
        yield f"{model.source}/{model.name}" + (f"\t{weights}" if weights else "")


def print_residency(server: str, residency: Residency) -> None:
    """Print the devices and the models in their memory; bytes as MiB."""
    from rich.console import Console
    from rich.table import Table

    devices = Table("device", "used MiB", "reserved MiB", "budget MiB", title=f"Server {server}")
    for device in residency.devices:
        sizes = (device.used_bytes, device.reserved_bytes, device.budget_bytes)
        devices.add_row(device.name, *(f"{size / _MIB:.0f}" for size in sizes))
    models = Table("model", "device", "MiB", "idle s", "requests", "pinned", title="In memory")
    for model in residency.models:
        models.add_row(
            model.model_id,
            model.device,
            f"{model.resident_bytes / _MIB:.0f}",
            f"{model.idle_seconds:.0f}",
            str(model.lease_count),
            "yes" if model.pinned else "",
        )
    console = Console()
    console.print(devices)
    console.print(models if residency.models else "No model is in memory.")
