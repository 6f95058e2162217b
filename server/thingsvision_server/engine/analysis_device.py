"""Says where RDMs and PCAs are computed, with which arithmetic, and in how much memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ..backends.base import OutOfDeviceMemoryError
from ..errors import ExhaustedError
from ..threads import check_threads

T_co = TypeVar("T_co", covariant=True)

_LEAST_BYTES = 64 << 20
"""Less memory is not tried: a block of values and a tile would not fit."""


class Analysis(Protocol[T_co]):
    """A computation that lacks its device."""

    def __call__(self, *, device: str, arithmetic: str, memory_bytes: int | None) -> T_co:
        """Compute on the device."""


@dataclass(frozen=True)
class AnalysisDevice:
    """A device for RDMs and PCAs.

    `arithmetic` as in `compute_rdm`. `free_bytes()` returns the device's free memory; None on a
    CPU, where the matrices are the host's. `translate` raises OutOfDeviceMemoryError in place of
    the framework's own error.
    """

    name: str
    arithmetic: str
    free_bytes: Callable[[], int] | None = None
    translate: Callable[[], AbstractContextManager[None]] = nullcontext

    def run(self, compute: Analysis[T_co]) -> T_co:
        """Compute within half of the free memory, or less where others take it meanwhile.

        Raises ExhaustedError if the device's memory is not enough.
        """
        check_threads((os.cpu_count() or 1) - 1)
        if self.free_bytes is None:
            return compute(device=self.name, arithmetic=self.arithmetic, memory_bytes=None)
        memory_bytes = max(_LEAST_BYTES, self.free_bytes() // 2)
        while True:
            try:
                with self.translate():
                    return compute(
                        device=self.name, arithmetic=self.arithmetic, memory_bytes=memory_bytes
                    )
            except OutOfDeviceMemoryError as error:
                if memory_bytes <= _LEAST_BYTES:
                    raise ExhaustedError(
                        f"the memory of {self.name} must have {_LEAST_BYTES:,} bytes for an RDM or "
                        "a PCA: try again when others use less of it, or unload a model"
                    ) from error
            memory_bytes = max(_LEAST_BYTES, memory_bytes // 2)
