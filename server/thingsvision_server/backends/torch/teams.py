"""The threads that share the operations of one thread: started before an operation needs them."""

from __future__ import annotations

import threading

import torch

from ...threads import check_threads
from .device import use_cores

_GRAIN = 32_768
"""PyTorch gives each thread at least so many values of an operation."""


class _Thread(threading.local):
    """How many threads OpenMP keeps for the calling thread, itself included."""

    size = 1


_thread = _Thread()


def use_team(count: int) -> None:
    """Set how many cores the calling thread's operations use, and start their threads if need be.

    Raises RuntimeError if the system has no threads left: OpenMP, which starts them in the first
    operation and ends them when fewer are used, then ends the whole process.
    """
    if count > _thread.size:
        check_threads(count - 1)
    use_cores(count)
    if count > _thread.size:
        torch.zeros(2 * _GRAIN * count).add_(1)
    if count > 1:  # an operation on one core leaves the others' threads alone
        _thread.size = count
