"""Remembers on which inputs a program's process died, and does not give it these for a while."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import PreconditionError

_MOST_DEATHS = 2
_PAUSE_SECONDS = 600.0
_MAX_INPUTS = 10_000


class Suspects:
    """The inputs on which a program's process died lately. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deaths: dict[bytes, tuple[int, float]] = {}

    def note(self, inputs: Sequence[Any]) -> None:
        """Remember the inputs of a pass that ended the process."""
        found = set(_digests(inputs))
        with self._lock:
            self._forget()
            for digest in found:
                count, _ = self._deaths.pop(digest, (0, 0.0))
                self._deaths[digest] = (count + 1, time.monotonic())
            while len(self._deaths) > _MAX_INPUTS:
                del self._deaths[next(iter(self._deaths))]

    def check(self, called: str, inputs: Sequence[Any]) -> None:
        """Raise PreconditionError if the process died twice on one of these inputs."""
        with self._lock:
            self._forget()
            if not self._deaths:
                return
        for digest in _digests(inputs):
            count, died_at = self._deaths.get(digest, (0, 0.0))
            if count >= _MOST_DEATHS:
                left = max(1, round(died_at + _PAUSE_SECONDS - time.monotonic()))
                raise PreconditionError(
                    f"the process of {called} died {count} times on these images, so it is not "
                    f"given them for another {left} s. Leave the images out, or mend the program",
                    field="model",
                )

    def _forget(self) -> None:
        oldest = time.monotonic() - _PAUSE_SECONDS
        for digest in [one for one, (_, at) in self._deaths.items() if at < oldest]:
            del self._deaths[digest]


def _digests(inputs: Sequence[Any]) -> Iterator[bytes]:
    """Yield the digest of each input of a batch."""
    for piece in inputs:
        for one in np.asarray(piece):
            yield hashlib.blake2b(np.ascontiguousarray(one).tobytes(), digest_size=16).digest()
