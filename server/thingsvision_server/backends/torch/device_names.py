"""Understands names of devices: PyTorch's own, and those of GPUs and MIG instances by NVIDIA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import PreconditionError

_UUID_KINDS = ("GPU-", "MIG-")


@dataclass(frozen=True)
class VisibleDevice:
    """A GPU, or an instance of one, that this process may use."""

    name: str
    """As `cuda:0`."""
    title: str
    """Such as `NVIDIA H200` or `NVIDIA H200 MIG 1g.18gb`."""
    uuid: str = ""
    """Such as `GPU-1f2e...` or `MIG-8a7b...`; empty if it is not known."""

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(filter(None, (self.title, self.uuid)))})"


def find_device(name: str, devices: Sequence[VisibleDevice], visible: str | None) -> str:
    """Return PyTorch's name of a device; `visible` is CUDA_VISIBLE_DEVICES, None if it is not set.

    A UUID may be abbreviated, as there. Raises PreconditionError for a device that can't be used.
    """
    usable = ["cpu", *(["cuda"] if devices else []), *(one.name for one in devices)]
    if name in usable:
        return name
    if name.upper().startswith(_UUID_KINDS):
        found = _by_uuid(name, devices, visible)
        if len(found) == 1:
            return found[0]
    listed = ", ".join(["cpu", *map(str, devices)])
    hints = " ".join(filter(None, (_spelling(name, devices), explain_visible(devices, visible))))
    raise PreconditionError(
        f"`device` must be auto or one of {listed}, got {name!r}" + (f". {hints}" if hints else "")
    )


def explain_visible(devices: Sequence[VisibleDevice], visible: str | None) -> str:
    """Return what CUDA_VISIBLE_DEVICES makes of the machine's GPUs; empty if it is not set."""
    if visible is None:
        return ""
    entries = _entries(visible)
    setting = f"CUDA_VISIBLE_DEVICES={visible}"
    if not entries or entries[0] == "-1":
        return f"{setting or 'CUDA_VISIBLE_DEVICES'} hides all GPUs."
    if not devices:
        return f"{setting} names no GPU that this machine has."
    numbered = f"{setting} numbers the devices that it names from cuda:0 on."
    if sum(entry.upper().startswith("MIG-") for entry in entries) > 1:
        return f"{numbered} Of several MIG instances, CUDA gives a process only the first."
    return numbered


def _entries(visible: str) -> list[str]:
    return [entry.strip() for entry in visible.split(",") if entry.strip()]


def _by_uuid(name: str, devices: Sequence[VisibleDevice], visible: str | None) -> list[str]:
    wanted = name.casefold()
    found = [one.name for one in devices if one.uuid.casefold().startswith(wanted)]
    if found:
        return found
    # PyTorch may not know the UUID of a MIG instance; its place in the list is its number.
    entries = _entries(visible or "")[: len(devices)]
    return [
        devices[place].name
        for place, entry in enumerate(entries)
        if entry.casefold().startswith(wanted) or wanted.startswith(entry.casefold())
    ]


def _spelling(name: str, devices: Sequence[VisibleDevice]) -> str:
    number = name.lower().removeprefix("cuda").removeprefix("gpu").strip(": -")
    if number.isdigit() and any(one.name == f"cuda:{number}" for one in devices):
        return f"Did you mean cuda:{number}?"
    return ""
