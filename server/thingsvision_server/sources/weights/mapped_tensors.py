"""Makes the tensors of a file from a table of their places, without reading what is in it."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .tensor_table import IN_FILE, IN_MEMORY, Message

if TYPE_CHECKING:
    import torch

_DTYPES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip


class TableError(ValueError):
    """A table that makes no sense: the process that made it is not to be trusted."""


class MappedTensors:
    """The tensors of a file that never changes, from the table that a guest made of it."""

    def __init__(self, path: Path, table: Message, memory: int | None = None) -> None:
        self._path, self._table = path, table
        self._memory = memory
        """The descriptor of the memory with values that are not in the file."""

    def checkpoint(self) -> dict[str, Any]:
        """Return the dicts of the file with their tensors, which nobody else has.

        Tensors are mapped, and copied where they are written to. Raises TableError.
        """
        try:
            return _Reader(self._path, self._table, self._memory).root
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            raise TableError(f"the tensors in its reply can't be read: {error}") from error


class _Reader:
    """Makes the tensors of one checkpoint."""

    def __init__(self, path: Path, table: Message, memory: int | None) -> None:
        with path.open("rb") as file:
            self._places = {IN_FILE: _map(file.fileno())}
        if memory is not None:
            self._places[IN_MEMORY] = _map(memory)
        self._storages = [self._storage(*one) for one in table["storages"]]
        tensors = [self._tensor(row) for row in table["tensors"]]
        dicts = [_new_dict(one.get("version")) for one in table["dicts"]]
        for filled, one in zip(dicts, table["dicts"], strict=True):
            filled |= {
                str(name): tensors[_index(number)] for name, number in one["tensors"].items()
            }
            filled |= {name: dicts[_index(number)] for name, number in one["dicts"].items()}
        self.root: dict[str, Any] = dicts[0]

    def _storage(self, place: str, offset: int, size: int) -> torch.Tensor:
        import torch

        if not _index(size):
            return torch.empty(0, dtype=torch.uint8)
        memory = self._places[place]
        if _index(offset) + _index(size) > len(memory):
            raise ValueError("a tensor's values are beyond the file")
        return torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=offset)

    def _tensor(self, row: list[Any]) -> torch.Tensor:
        import torch

        dtype = _dtypes()[row[1]] if isinstance(row[0], int) else torch.float32
        shape = tuple(map(_index, row[2]))
        if not isinstance(row[0], int):
            return _stand_in(str(row[0]), shape)
        _, _, _, strides, start = row
        raw = self._storages[_index(row[0])]
        values = raw[: len(raw) - len(raw) % dtype.itemsize].view(dtype)
        strides = tuple(map(_index, strides))
        if 0 not in shape:
            last = _index(start) + sum(
                (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
            )
            if last >= len(values):
                raise ValueError("a tensor is larger than its values")
        return values.as_strided(shape, strides, start)


def _map(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)


def _new_dict(version: Any) -> dict[str, Any]:
    if version is None:
        return {}
    from .state_dicts import VersionedState

    return VersionedState({}, int(version))


def _index(value: Any) -> int:
    """Return a number that is not negative, and no boolean; raise TypeError."""
    if type(value) is not int or value < 0:
        raise TypeError(f"not a size: {value!r}")
    return value


@cache
def _dtypes() -> Mapping[str, torch.dtype]:
    import torch

    return {name: getattr(torch, name) for name in _DTYPES if hasattr(torch, name)}


def _stand_in(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a tensor without values for one of a kind that no network takes."""
    import torch

    tensor = torch.empty(shape, device="meta")
    tensor.kind = kind  # type: ignore[attr-defined]  # `key_mismatches.kind_of` tells it
    return tensor
