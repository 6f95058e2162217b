"""A second client, which asks for the features of one image again and again meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thingsvision_client import Client
from thingsvision_client.errors import ThingsvisionError

MODEL = "torchvision/squeezenet1_1@random:0"
MODULE = "features.0"


@dataclass
class Bystander:
    """What happened to the calls of the second client."""

    seconds: list[float] = field(default_factory=list)
    """How long each call took."""
    failures: list[str] = field(default_factory=list)
    """Calls that failed, or that got other features than the first call did."""

    @property
    def p95_seconds(self) -> float:
        """The time within which 95 of 100 calls were answered."""
        return float(np.percentile(self.seconds, 95))


@contextmanager
def bystander(
    address: str, photos: Sequence[Path], every_seconds: float, *, token: str | None = None
) -> Iterator[Bystander]:
    """Call in the background, and at least once: before the context begins."""
    found, over = Bystander(), threading.Event()
    photo = [photos[-1]]

    with Client(address, token=token) as client:
        expected = client.extract(MODEL, photo, MODULE).features[MODULE]

        def call() -> None:
            began = time.monotonic()
            try:
                rows = client.extract(MODEL, photo, MODULE).features[MODULE]
                if not np.array_equal(rows, expected):
                    found.failures.append("the features are not those of the first call")
            except ThingsvisionError as error:
                found.failures.append(f"{type(error).__name__}: {error}")
            found.seconds.append(time.monotonic() - began)

        def call_until_over() -> None:
            call()
            while not over.wait(max(0.0, every_seconds - found.seconds[-1])):
                call()

        thread = threading.Thread(target=call_until_over, name="bystander")
        thread.start()
        try:
            yield found
        finally:
            over.set()
            thread.join()
