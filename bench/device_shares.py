"""Samples what each person has used of a server's device, and whether images of all waited."""

from __future__ import annotations

import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_EVERY_SECONDS = 0.2
_ROW = re.compile(
    r'^thingsvision_person_(\w+?)(?:_total)?\{person="([^"]*)"\} (\S+)$', re.MULTILINE
)


@dataclass(frozen=True)
class _Sample:
    """What the page said of each person."""

    seconds: dict[str, float]
    queued: dict[str, float]
    decoding: dict[str, float]
    images: dict[str, float]
    at: float


class Sampler:
    """Reads /metrics every fifth of a second."""

    def __init__(self, port: int, people: list[str]) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._people = people
        self._samples: list[_Sample] = []
        self._stopped = threading.Event()

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample until `stop`, or until the context ends."""
        thread = threading.Thread(target=self._sample)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join()

    def stop(self) -> None:
        """Sample no more."""
        self._stopped.set()

    def lines(self) -> Iterator[dict[str, dict[str, float] | float]]:
        """Yield each person's share of the device's seconds, of decoding, and of being owed any."""
        first, last = self._samples[0], self._samples[-1]
        yield {"device_share": _shares(self._between(first.seconds, last.seconds))}
        yield {"decode_share": _shares(self._between(first.decoding, last.decoding))}
        waiting = {
            name: sum(one.queued[name] > 0 for one in self._samples) / len(self._samples)
            for name in self._people
        }
        yield {"time_with_images_waiting": {name: round(one, 2) for name, one in waiting.items()}}
        used, count = dict.fromkeys(self._people, 0.0), 0
        for before, after in zip(self._samples, self._samples[1:], strict=False):
            if all(before.queued.values()) and all(after.queued.values()):
                count += 1
                for name, more in self._between(before.seconds, after.seconds).items():
                    used[name] += more
        yield {
            "device_share_while_all_wait": _shares(used),
            "part_of_time": round(count / max(1, len(self._samples) - 1), 2),
        }

    def _between(self, before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
        return {name: after[name] - before[name] for name in self._people}

    def wait_until_all_work(self) -> None:
        """Wait until images of everybody have been computed from now on."""
        before = self._look().images
        while not all(self._between(before, self._look().images).values()):
            time.sleep(_EVERY_SECONDS)

    def rates(self) -> dict[str, float]:
        """Return the images per second that the server computed of each person."""
        first, last = self._samples[0], self._samples[-1]
        more = self._between(first.images, last.images)
        return {name: round(one / (last.at - first.at), 2) for name, one in more.items()}

    def _sample(self) -> None:
        while not self._stopped.wait(_EVERY_SECONDS):
            self._samples.append(self._look())

    def _look(self) -> _Sample:
        with urllib.request.urlopen(self._url, timeout=30) as answer:
            rows = _ROW.findall(answer.read().decode())
        found = {(field, person): float(value) for field, person, value in rows}

        def read(field: str) -> dict[str, float]:
            return {name: found.get((field, name), 0.0) for name in self._people}

        return _Sample(
            seconds=read("device_seconds"),
            queued=read("queue_depth"),
            decoding=read("decode_seconds"),
            images=read("images"),
            at=time.monotonic(),
        )


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _shares(used: dict[str, float]) -> dict[str, float]:
    whole = sum(used.values()) or 1.0
    return {name: round(one / whole, 3) for name, one in used.items()}
