"""All attacks and ordinary work, for a long time, on a server with a tight budget.

A round of everything comes first. What the server then has when it is idle, its children ended and
its models unloaded, it must have again at the end: memory, threads, open files, children, leases.
"""

from __future__ import annotations

import io
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image as Pillow
from safetensors.numpy import save_file

from hostile.attacks import Attack, Target
from support.server_process import ServerProcess
from thingsvision_client import Client
from thingsvision_client.errors import BackendCrashedError, ThingsvisionError

BUDGET: Mapping[str, object] = {
    "device_memory": "300MiB",  # one alexnet, or a few squeezenets
    "image_store": "8MiB",
    "upload_quota": "128MiB",
    "pca_quota": "8MiB",
    "rdm_features_memory": 0,
    "stall_seconds": 20,
    "lease_seconds": 1,
}
MODELS = {
    "torchvision/squeezenet1_1@random:0": "features.12",
    "torchvision/squeezenet1_0@random:1": "features.12",
    "torchvision/alexnet@random:0": "features.5",
}
SAMPLE_SECONDS = 5.0
QUIET_SECONDS = 90.0
"""How long children that nobody uses, and what they hold, may stay."""


@dataclass(frozen=True)
class Sample:
    """What the server has at a moment."""

    at_seconds: float
    resident_bytes: int
    thread_count: int
    file_count: int
    child_count: int
    children_bytes: int
    lease_count: int
    thread_names: Mapping[str, int]
    """How many threads the system knows by each name."""

    def row(self) -> str:
        """Return the figures as a line."""
        return (
            f"{self.at_seconds:7.0f} s  {self.resident_bytes / 1e6:7.0f} MB  "
            f"{self.thread_count:4} threads  {self.file_count:4} files  "
            f"{self.child_count:3} children {self.children_bytes / 1e6:6.0f} MB  "
            f"{self.lease_count:3} leases"
        )


@dataclass
class Soak:
    """A soak that runs, and what it found."""

    server: ServerProcess
    photos: Sequence[Path]
    folder: Path
    attacks: Sequence[Attack]
    report: Callable[[str], object] = lambda _line: None
    samples: list[Sample] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """Calls that failed and should not have."""

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._random = random.Random(0)

    def run(self, seconds: float) -> None:
        """Do everything for so long, each kind of work in a thread of its own."""
        over = threading.Event()
        works: list[Callable[[], None]] = [self._extract, self._compare, self._upload, self._attack]
        threads = [threading.Thread(target=self._repeat, args=(one, over)) for one in works]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(SAMPLE_SECONDS, left))
            self.samples.append(self.measure())
            self.report(self.samples[-1].row())
        over.set()
        for thread in threads:
            thread.join()

    def do_everything(self, *, attacks: bool) -> None:
        """Do each kind of work once, and each attack."""
        for work in (*[self._extract] * len(MODELS), self._compare, self._upload):
            work()
        for attack in self.attacks if attacks else ():
            self._run(attack)

    def quieten(self, like: Sample | None = None) -> Sample:
        """Unload all models, and wait until nothing goes on: as little as in another sample."""
        deadline = time.monotonic() + QUIET_SECONDS
        with Client(self.server.address) as client:
            while True:
                for one in client.residency().models:
                    if not one.lease_count:
                        client.unload(one.model)
                found = self.measure()
                is_quiet = not found.lease_count and (like is None or grown(like, found) == [])
                if is_quiet or time.monotonic() > deadline:
                    return found
                time.sleep(0.5)

    def measure(self) -> Sample:
        """Return what the server has now."""
        process = self.server.process
        children = process.children(recursive=True)
        with Client(self.server.address) as client:
            leases = sum(one.lease_count for one in client.residency().models)
        return Sample(
            time.monotonic() - self._began,
            process.memory_info().rss,
            process.num_threads(),
            process.num_fds(),
            len(children),
            sum(map(_resident_bytes, children)),
            leases,
            _thread_names(process),
        )

    def _repeat(self, work: Callable[[], None], over: threading.Event) -> None:
        while not over.is_set():
            try:
                work()
            except BackendCrashedError:  # an attack kills children
                self._count("calls of killed children")
            except (ThingsvisionError, AssertionError) as error:
                self.faults.append(f"{type(error).__name__}: {error}")

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _extract(self) -> None:
        """Extract new images and known images with each model in turn, which evicts the others."""
        model = list(MODELS)[self.counts.get("extractions", 0) % len(MODELS)]
        images: list[Any] = [*self.photos, ("new", self._new_image())]
        with Client(self.server.address) as client:
            client.extract(model, images, MODELS[model])
        self._count("extractions")

    def _compare(self) -> None:
        """Compute an RDM and a PCA, from rows that are spilled, and delete the PCA."""
        model = "torchvision/squeezenet1_1@random:0"
        with Client(self.server.address) as client:
            client.rdm(model, self.photos, MODELS[model])
            pca = client.fit_pca(model, self.photos, MODELS[model], components=2)
            client.delete_pca(pca.sha256)
        self._count("RDMs and PCAs")

    def _upload(self) -> None:
        """Upload other weights each time, list uploads and models, and delete the weights."""
        path = self.folder / "weights.safetensors"
        weights = np.full(200_000, self.counts.get("uploads", 0), np.float32)
        save_file({"classifier.1.bias": weights}, path)
        with Client(self.server.address) as client:
            sha256 = client.upload_weights(path)
            assert sha256 in [one.sha256 for one in client.uploads()]
            assert client.models("ssl")
            client.delete_upload(sha256)
        self._count("uploads")

    def _attack(self) -> None:
        self._run(self._random.choice(self.attacks))

    def _run(self, attack: Attack) -> None:
        place = self.folder / f"{attack.name}-{self.counts.get('attacks', 0)}"
        place.mkdir()
        attack.run(Target(self.server.address, self.server.process, self.photos, place))
        self._count("attacks")

    def _new_image(self) -> bytes:
        pixels = np.frombuffer(self._random.randbytes(64 * 64 * 3), np.uint8).reshape(64, 64, 3)
        file = io.BytesIO()
        Pillow.fromarray(pixels).save(file, "PNG")
        return file.getvalue()


def grown(before: Sample, after: Sample, *, bytes_more: int = 300_000_000) -> list[str]:
    """Return in which ways the server has more than before."""
    # gRPC ends threads that it no longer needs one by one.
    most = {"thread_count": 12, "file_count": 4, "child_count": 0, "lease_count": 0}
    most |= {"resident_bytes": bytes_more, "children_bytes": bytes_more}
    found = [
        f"{name}: {getattr(before, name):,} before, {getattr(after, name):,} after"
        for name, more in most.items()
        if getattr(after, name) > getattr(before, name) + more
    ]
    if any("thread" in one for one in found):
        more_threads = Counter(after.thread_names) - Counter(before.thread_names)
        found.append(f"threads that came: {dict(more_threads)}")
    return found


def _thread_names(process: psutil.Process) -> Mapping[str, int]:
    names: Counter[str] = Counter()
    for thread in Path(f"/proc/{process.pid}/task").glob("*/comm"):
        with suppress(OSError):  # it has ended
            names[thread.read_text().strip()] += 1
    return names


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
