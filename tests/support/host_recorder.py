"""Records passes on a CPU: a double of CUDA graphs, with memory that each replay overwrites."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from thingsvision_server.backends.torch.recorded import Outputs, Recording


class HostRecorder:
    """Replays work into the memory of its first outputs, after it filled that with NaN.

    Marks are of threads, as those of streams: `missed_waits` counts replays of a thread that did
    not wait for the mark of another.
    """

    def __init__(self) -> None:
        self.missed_waits = 0
        self._last: object = None
        self._waited = threading.local()

    def record(self, work: Callable[[], Outputs]) -> Recording:
        outputs = {name: [one.clone() for one in calls] for name, calls in work().items()}

        def replay() -> None:
            if self._last is not None and getattr(self._waited, "mark", None) is not self._last:
                self.missed_waits += 1
            for calls in outputs.values():
                for one in calls:
                    one.fill_(torch.nan)
            for name, calls in work().items():
                for target, one in zip(outputs[name], calls, strict=True):
                    target.copy_(one)

        return Recording(outputs, replay)

    def mark(self) -> object:
        self._last = object()
        return self._last

    def wait(self, mark: object) -> None:
        self._waited.mark = mark
