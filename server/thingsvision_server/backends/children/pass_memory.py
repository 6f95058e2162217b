"""The memory that a batch and its rows share between the server and a child."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..base import Rows
from ..taps import Tap, TokenExtraction
from .blocks import BlockPool
from .channel import Layout, Message


def array_in(memory: Any, shape: Sequence[int], dtype: Any, offset: int) -> Any:
    """Return the array at an offset of shared memory, without a copy."""
    return np.frombuffer(memory, dtype, prod(shape), offset).reshape(shape)


class PassMemory:
    """A batch, and the rows of each tap: where they are, and how a request says so."""

    def __init__(self, pool: BlockPool, inputs: Sequence[Any], taps: Sequence[Tap]) -> None:
        pieces = [np.asarray(one) for one in inputs]
        self._shape: tuple[int, ...] = (sum(map(len, pieces)), *pieces[0].shape[1:])
        self._dtype, self._taps = pieces[0].dtype, taps
        layout = Layout()
        layout.add(prod(self._shape) * self._dtype.itemsize)
        for tap in taps:
            layout.add(len(self) * tap.row_bytes)
        self._offsets = layout.offsets[1:]
        self._dropped = pool.take_dropped()
        self._lent = pool.lend(layout.size_bytes)
        batch = self._array(self._shape, self._dtype, 0)
        if len(pieces) == 1:
            np.copyto(batch, pieces[0])
        else:
            np.concatenate(pieces, out=batch)

    def _array(self, shape: Sequence[int], dtype: Any, offset: int) -> Any:
        """Return an array in the block, which is lent as long as the array lives."""
        end = offset + prod(shape) * np.dtype(dtype).itemsize
        return np.asarray(self._lent)[offset:end].view(dtype).reshape(shape)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The block's descriptor, if the child has not mapped it yet."""
        block = self._lent.block
        return () if block.is_known else (block.descriptor,)

    def mark_known(self) -> None:
        """Remember that the child has mapped the block."""
        self._lent.block.is_known = True

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def message(self) -> Message:
        """The fields of a request that say what is where."""
        taps = [
            {
                "name": tap.name,
                "module": tap.module,
                "modality": tap.modality,
                "calls": tap.calls,
                "stacked": tap.is_stacked,
                "call_shape": tap.call_shape,
                "call_axes": tap.call_axes,
                "tokens": tap.tokens.value,
                "prefix_tokens": tap.prefix_tokens,
                "shape": tap.output_shape,
                "offset": offset,
            }
            for tap, offset in zip(self._taps, self._offsets, strict=True)
        ]
        place = {"block": self._lent.block.number, "dropped": self._dropped}
        return {"shape": list(self._shape), "dtype": str(self._dtype), "taps": taps, **place}

    @property
    def rows(self) -> list[Rows]:
        """The rows that the child wrote, by tap."""
        return [
            self._array((len(self), *tap.output_shape), np.float32, offset)
            for tap, offset in zip(self._taps, self._offsets, strict=True)
        ]


def read_tap(message: Message) -> Tap:
    """Return the tap of a request, in the child."""
    return Tap(
        name=message["name"],
        module=message["module"],
        modality=message["modality"],
        calls=tuple(message["calls"]),
        is_stacked=message["stacked"],
        call_shape=tuple(message["call_shape"]),
        call_axes=tuple(message["call_axes"]),
        tokens=TokenExtraction(message["tokens"]),
        prefix_tokens=message["prefix_tokens"],
    )
