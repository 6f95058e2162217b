"""Calls of several models at once, all the time, whose rows must be those of the first calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from support.cluster import Cluster
from thingsvision_client.errors import ThingsvisionError

MODULE = "features.0"
THREAD_COUNT = 3
MODELS = [f"torchvision/squeezenet1_1@random:{seed}" for seed in range(6)]


@dataclass
class Load:
    """What happened to the calls."""

    seconds: list[float] = field(default_factory=list)
    """How long each call took."""
    failures: list[str] = field(default_factory=list)
    """Calls that failed, or that got other rows than the first call did."""
    failures_began: list[float] = field(default_factory=list)
    """When each of them began."""

    failed_threads: list[str] = field(default_factory=list)
    """The name of the thread that made each of them."""

    def fail(self, sentence: str, began: float) -> None:
        """Note a call of this thread that failed."""
        self.failures.append(sentence)
        self.failures_began.append(began)
        self.failed_threads.append(threading.current_thread().name)

    def wait_for(self, count: int, seconds: float = 30) -> None:
        """Wait until so many more calls have ended."""
        wanted, deadline = len(self.seconds) + count, time.monotonic() + seconds
        while len(self.seconds) < wanted:
            assert time.monotonic() < deadline, f"{len(self.seconds)} calls; {self.failures}"
            time.sleep(0.02)


@contextmanager
def load(cluster: Cluster, photos: Sequence[Path]) -> Iterator[Load]:
    """Call all models through all gateways in the background."""
    found, over = Load(), threading.Event()
    photo = [photos[-1]]
    with cluster.client() as client:
        expected = {one: client.extract(one, photo, MODULE).features[MODULE] for one in MODELS}

    def work(number: int) -> None:
        with cluster.client(number % len(cluster.gateways)) as client:
            while not over.is_set():
                for model in MODELS[number:] + MODELS[:number]:
                    began = time.monotonic()
                    try:
                        rows = client.extract(model, photo, MODULE).features[MODULE]
                        if not np.array_equal(rows, expected[model]):
                            found.fail(f"{model} has other rows than before", began)
                    except ThingsvisionError as error:
                        found.fail(f"{type(error).__name__}: {error}", began)
                    found.seconds.append(time.monotonic() - began)

    threads = [threading.Thread(target=work, args=[one]) for one in range(THREAD_COUNT)]
    for thread in threads:
        thread.start()
    try:
        found.wait_for(len(MODELS))
        yield found
    finally:
        over.set()
        for thread in threads:
            thread.join()
