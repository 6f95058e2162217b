"""Says where the tensors of a checkpoint are in its file, so that another process need not read it.

A guest reads an uploaded file and makes the table; the server maps the file and takes numbers alone
from the table, each of which it checks (`mapped_tensors.py`). Tensors that aren't in the file as
they are in memory are copied into memory that both share.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ...errors import InvalidWeightsError
from .key_mismatches import kind_of
from .state_dicts import DEEPEST, state_dicts_in, version_of

if TYPE_CHECKING:
    import torch

Message = dict[str, Any]

IN_FILE, IN_MEMORY = "file", "memory"
"""Where the values of a tensor are."""

ALIGNMENT = 64
MOST_TENSORS = 200_000
_MOST_NAME = 4096
_LEAST_BYTES = 64 * 1024 * 1024
_FACTOR = 4
"""Tensors may have so many bytes, or so many times the file's, in which several share values."""


class TensorTable:
    """The tensors of a checkpoint: dicts of tensors and dicts, by number; the first is the root."""

    def __init__(
        self, checkpoint: Any, path: Path, called: str, maps: IO[bytes] | None = None
    ) -> None:
        self._called = called
        self._most_bytes = max(_LEAST_BYTES, _FACTOR * path.stat().st_size)
        self._mapped = _Mapped(path, maps)
        self._spread_bytes = 0
        self._dicts: list[Message] = []
        self._numbers: dict[int, int] = {}
        self._rows: list[list[Any]] = []
        self._storages: list[list[Any]] = []
        self._known: dict[tuple[int, int], int] = {}
        self._copied: list[tuple[int, torch.Tensor]] = []
        self._memory_bytes = 0
        state_dicts_in(checkpoint)  # raises if there are too many
        self._add_dict(checkpoint if isinstance(checkpoint, Mapping) else {}, 0)

    @property
    def message(self) -> Message:
        """The table as a message has it."""
        return {
            "dicts": self._dicts,
            "tensors": self._rows,
            "storages": self._storages,
            "memory_bytes": self._memory_bytes,
        }

    def fill(self, memory: Any) -> None:
        """Copy the values that are not in the file into memory of `memory_bytes`."""
        for offset, values in self._copied:
            target = np.frombuffer(memory, np.uint8, len(values), offset)
            np.copyto(target, values.numpy())

    def _add_dict(self, part: Mapping[Any, Any], depth: int) -> int:
        number = self._numbers.get(id(part))
        if number is not None:
            return number
        number = self._numbers[id(part)] = len(self._dicts)
        version = version_of(part)
        tensors: dict[str, int] = {}
        dicts: dict[str, int] = {}
        entry: Message = {"tensors": tensors, "dicts": dicts}
        if version is not None:
            entry["version"] = version
        self._dicts.append(entry)
        for name, value in part.items():
            if isinstance(value, Mapping):
                if isinstance(name, str) and depth <= DEEPEST:
                    dicts[self._checked(name)] = self._add_dict(value, depth + 1)
            elif kind_of(value) is not None:
                tensors[self._checked(str(name))] = self._add_tensor(value)
        return number

    def _checked(self, name: str) -> str:
        if len(name) > _MOST_NAME:
            raise self._refusal(f"a name in it has {len(name):,} letters, at most {_MOST_NAME:,}")
        if len(self._rows) + len(self._dicts) > MOST_TENSORS:
            raise self._refusal(f"it has more than {MOST_TENSORS:,} tensors and dicts")
        return name

    def _refusal(self, what: str) -> InvalidWeightsError:
        return InvalidWeightsError(
            f"{self._called} is rejected: {what}. Save `model.state_dict()`", subject=self._called
        )

    def _add_tensor(self, value: torch.Tensor) -> int:
        kind = kind_of(value)
        dtype, shape = str(value.dtype).removeprefix("torch."), list(value.shape)
        if kind:
            self._rows.append([kind, dtype, shape])
            return len(self._rows) - 1
        value = value.detach().resolve_conj().resolve_neg()
        whole = value.untyped_storage()
        if value.nbytes > whole.nbytes():
            self._spread_bytes += value.nbytes
            if self._spread_bytes > self._most_bytes:
                raise self._refusal(
                    f"its tensors share values, and would have more than {self._most_bytes:,} bytes"
                )
        storage = self._add_storage(whole)
        self._rows.append([storage, dtype, shape, list(value.stride()), value.storage_offset()])
        return len(self._rows) - 1

    def _add_storage(self, storage: Any) -> int:
        place, size = storage.data_ptr(), storage.nbytes()
        if (place, size) not in self._known:
            self._known[place, size] = len(self._storages)
            offset = self._mapped.offset(place, size)
            if offset is not None:
                self._storages.append([IN_FILE, offset, size])
            else:
                self._storages.append([IN_MEMORY, self._copy_later(storage), size])
        return self._known[place, size]

    def _copy_later(self, storage: Any) -> int:
        import torch

        offset = self._memory_bytes
        values = torch.empty(0, dtype=torch.uint8).set_(storage)
        self._copied.append((offset, values))
        self._memory_bytes += -(-len(values) // ALIGNMENT) * ALIGNMENT
        if self._memory_bytes > self._most_bytes:
            raise self._refusal(
                f"its tensors have more than {self._most_bytes:,} bytes, many times those of the "
                "file"
            )
        return offset


class _Mapped:
    """The places where a file is mapped into this process's memory."""

    def __init__(self, path: Path, maps: IO[bytes] | None) -> None:
        self._size_bytes = path.stat().st_size
        spans = sorted(_mappings(path, maps)) if maps is not None else []
        self._starts = [start for start, _, _ in spans]
        self._spans = spans

    def offset(self, place: int, size: int) -> int | None:
        """Return where in the file memory is; None if it is elsewhere."""
        number = bisect_right(self._starts, place) - 1
        if number < 0 or not size:
            return None
        start, stop, offset = self._spans[number]
        offset += place - start
        is_inside = place + size <= stop and offset + size <= self._size_bytes
        return offset if is_inside else None


def _mappings(path: Path, maps: IO[bytes]) -> Iterator[tuple[int, int, int]]:
    """Yield the first and the last address, and the offset, of each mapping of a file."""
    status = path.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    maps.seek(0)
    name = str(path.resolve())
    for line in maps.read().decode(errors="replace").splitlines():
        span, _, offset, found, inode, *mapped = line.split(maxsplit=5)
        # A file system in layers, as of a container, has other numbers here.
        if mapped == [name] or (int(inode) == status.st_ino and found == device):
            start, _, stop = span.partition("-")
            yield int(start, 16), int(stop, 16), int(offset, 16)
