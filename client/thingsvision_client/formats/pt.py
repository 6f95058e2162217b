"""PyTorch's format: a tensor, or a dict of tensors by module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..errors import InvalidRequestError, MissingDependencyError
from .base import FEATURES, FileFormat, Layout, Writer
from .spool import Spool, open_spool


@contextmanager
def _open(path: Path, layout: Layout) -> Iterator[Writer]:
    _torch()
    with open_spool(path, layout) as spool:
        yield spool
        _write(path, layout, spool)


def _write(path: Path, layout: Layout, spool: Spool) -> None:
    torch = _torch()
    # Tensors share memory with the memory map, and are written from there.
    tensors = [torch.from_numpy(array) for array in spool.arrays()]
    names = [column.name for column in layout.columns]
    content = tensors[0] if layout.is_alone else dict(zip(names, tensors, strict=True))
    try:
        torch.save(content, path)
    except RuntimeError as error:  # what torch raises for a full disk
        raise OSError(f"{path} can't be written: {error}") from error


def _read(path: Path) -> dict[str, Array]:
    torch = _torch()
    content = torch.load(path, map_location="cpu", weights_only=True)
    tensors = content if isinstance(content, dict) else {FEATURES: content}
    strange = [name for name, one in tensors.items() if not isinstance(one, torch.Tensor)]
    if strange:
        raise InvalidRequestError(
            f"{path} must contain tensors only; {strange[0]!r} is not a tensor."
        )
    return {str(name): tensor.detach().numpy() for name, tensor in tensors.items()}


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "pt files need torch: pip install torch, or use another format, such as npy."
        ) from error
    return torch


PT = FileFormat("pt", "pt", holds_several=True, opener=_open, reader=_read, require=_torch)
