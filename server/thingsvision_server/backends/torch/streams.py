"""Brings batches to a device and rows back, while other lanes compute.

On a GPU each lane has three streams: one copies batches in, one computes, one copies rows out. Each
does its own work in order, and waits for another where an event says so; the lane's thread waits
only for the last copy. On a CPU the device's memory is the host's: nothing is copied or waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

from ..staging import staging


class Event(Protocol):
    """A moment in a stream: all that was queued before it is done."""

    def synchronize(self) -> None:
        """Wait for it in this thread."""


class Stream(Protocol):
    """Work of a device, done in the order in which it is queued."""

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return memory of the device that is this stream's until it is freed."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Queue a copy."""

    def record(self) -> Event:
        """Return the event after all that is queued now."""

    def wait(self, event: Any) -> None:
        """Let what is queued from now on begin after an event of another stream."""

    def use(self) -> AbstractContextManager[Any]:
        """Queue all operations of this thread here while the context lasts."""


class DeviceStreams(Protocol):
    """The way of one lane's batches to the device, and of their rows back."""

    def load(self, pieces: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return pieces of a batch (each images x shape) as a batch for operations in `use`."""

    def use(self) -> AbstractContextManager[Any]:
        """Run operations of this thread on the device, after the last `load`."""

    def empty_rows(self, shape: Sequence[int]) -> torch.Tensor:
        """Return memory of the device for float32 rows."""

    def keep(self, rows: torch.Tensor, output: torch.Tensor) -> None:
        """Copy an output into rows before a later operation can overwrite it."""

    def unload(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows in the host's memory; their values are there after `finish`."""

    def finish(self) -> None:
        """Wait for all copies of rows, also if the pass failed: others may get their memory."""


class HostStreams:
    """The streams of a CPU: what is loaded, computed or unloaded is there at once."""

    def load(self, pieces: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return a single piece as it is, several side by side."""
        if len(pieces) == 1:
            return pieces[0]
        batch = _host_tensor(_batch_shape(pieces), pieces[0].dtype)
        return torch.cat(list(pieces), out=batch)

    def use(self) -> AbstractContextManager[Any]:
        """Change nothing."""
        return nullcontext()

    def empty_rows(self, shape: Sequence[int]) -> torch.Tensor:
        """Return memory for rows."""
        return _host_tensor(shape, torch.float32)

    def keep(self, rows: torch.Tensor, output: torch.Tensor) -> None:
        """Copy an output into rows."""
        rows.copy_(output)

    def unload(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows."""
        return rows

    def finish(self) -> None:
        """Do nothing: all is done."""


class QueuedStreams:
    """The three streams of a lane, which `open_stream` opens."""

    def __init__(self, open_stream: Callable[[], Stream]) -> None:
        self._inward, self._compute, self._outward = (open_stream() for _ in range(3))

    def load(self, pieces: Sequence[torch.Tensor]) -> torch.Tensor:
        """Queue the copies of the pieces, side by side; operations wait for them."""
        # Its memory is of the stream that writes it first: passes before may still use the others'.
        batch = self._inward.empty(_batch_shape(pieces), pieces[0].dtype)
        places = torch.split(batch, [len(piece) for piece in pieces])
        for place, piece in zip(places, pieces, strict=True):
            self._inward.copy(place, piece)
        self._compute.wait(self._inward.record())
        return batch

    def use(self) -> AbstractContextManager[Any]:
        """Queue operations in the stream that computes."""
        return self._compute.use()

    def empty_rows(self, shape: Sequence[int]) -> torch.Tensor:
        """Return memory of the device for rows."""
        return self._compute.empty(shape, torch.float32)

    def keep(self, rows: torch.Tensor, output: torch.Tensor) -> None:
        """Queue a copy on the device, between the operations."""
        self._compute.copy(rows, output)

    def unload(self, rows: torch.Tensor) -> torch.Tensor:
        """Queue the copy of rows to the host, after the operations queued so far."""
        self._outward.wait(self._compute.record())
        host = _host_tensor(rows.shape, rows.dtype)
        self._outward.copy(host, rows)
        return host

    def finish(self) -> None:
        """Wait for the copies to the host.

        What else is queued after a failure writes only into memory that its own stream lends next.
        """
        self._outward.record().synchronize()


def _batch_shape(pieces: Sequence[torch.Tensor]) -> tuple[int, ...]:
    return (sum(map(len, pieces)), *pieces[0].shape[1:])


def _host_tensor(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Return memory of the host that the pool lends."""
    return torch.from_numpy(staging().array(tuple(shape), str(dtype).removeprefix("torch.")))
