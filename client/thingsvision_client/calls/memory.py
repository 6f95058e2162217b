"""The memory of this machine, or of the container that a process runs in, and sizes as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidRequestError
from .caller import warn_caller

_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""Files of the limit and of the use of a group's memory, of cgroups 2 and 1."""

_SMALL_BYTES = 1024 * 1024
"""Reading the system's figures takes a twentieth of the time of one warm image."""


@dataclass(frozen=True)
class Memory:
    """Bytes of memory: all that a process may use, and what is free of it."""

    total_bytes: int
    free_bytes: int


def memory() -> Memory:
    """Return the memory of the machine, or of the container if that has less."""
    import psutil

    found = psutil.virtual_memory()
    total, free = int(found.total), int(found.available)
    for folder in _groups():
        for limit_file, use_file in _LIMITS:
            limit, use = _read(folder / limit_file), _read(folder / use_file)
            if limit is not None and limit < total:
                used = max(0, (use or 0) - _cache_bytes(folder))
                total, free = limit, min(free, max(0, limit - used))
    return Memory(total, free)


def _groups() -> list[Path]:
    """Return the folders of the control groups of this process, and of those above."""
    found = [_CGROUPS, _CGROUPS / "memory"]
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, kinds, path = line.split(":", 2)
        root = _CGROUPS if not kinds else _CGROUPS / "memory"
        if not kinds or "memory" in kinds.split(","):
            inner = root / path.lstrip("/")
            found += [one for one in (inner, *inner.parents) if one.is_relative_to(root)]
    return list(dict.fromkeys(found))


def _cache_bytes(folder: Path) -> int:
    """Return how much of a group's memory holds files that can be read again."""
    lines = (line.split() for line in _text(folder / "memory.stat").splitlines())
    return next((int(line[1]) for line in lines if line[0] == "inactive_file"), 0)


def _read(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def check_fits(byte_count: int, what: str) -> None:
    """Check that an array fits into memory; warn if it fits only without other programs.

    Raises InvalidRequestError if it never does. Small arrays are not checked.
    """
    if byte_count < _SMALL_BYTES:
        return
    found = memory()
    size = f"{what} have {size_text(byte_count)}"
    if byte_count > found.total_bytes:
        raise InvalidRequestError(
            f"{size}, but this machine (or its container) has {size_text(found.total_bytes)} of "
            f"memory: {_WAYS_OUT}."
        )
    if byte_count > found.free_bytes:
        warn_caller(
            f"{size}, but only {size_text(found.free_bytes)} of memory are free: {_WAYS_OUT}."
        )


_WAYS_OUT = (
    "write them to files as they arrive, with output_dir of extract_features or the command "
    "extract-features, or make them smaller on the server, with reduction (pooling, units, "
    "projection, PCA)"
)


def size_text(byte_count: int) -> str:
    """Return a number of bytes with a unit, such as `118 GB`."""
    size = float(byte_count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{byte_count} bytes"
        size /= 1000
    return f"{size:.3g} TB"
