"""What all checks share: the device, the photographs, and the size of the work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..server import ServerProcess

Result = dict[str, Any]
"""A line: the row's name, whether it is `ok`, and its figures."""

Results = Iterator[Result]


@dataclass(frozen=True)
class Sizes:
    """How much is measured; a CPU that stands in for a GPU measures little."""

    features: Mapping[str, tuple[str, str, int]]
    """By row: the network, the module and the number of images."""
    batch_size: int
    rounds: int
    decoded: int
    """JPEGs."""
    rdms: tuple[int, ...]
    """Rows of features."""
    options: int
    """Images."""


FULL = Sizes(
    features={
        "resnet50": ("resnet50", "avgpool", 2048),
        "vit_b_16": ("vit_b_16", "encoder", 1024),
        "alexnet": ("alexnet", "features.10", 2048),
        "early": ("alexnet", "features.0", 2048),
    },
    batch_size=128,
    rounds=3,
    decoded=2048,
    rdms=(10_000, 50_000),
    options=1024,
)

SMALL = Sizes(
    features={
        "resnet50": ("resnet18", "layer2", 4),
        "vit_b_16": ("shufflenet_v2_x0_5", "conv5", 4),
        "alexnet": ("squeezenet1_1", "features.5", 4),
        "early": ("squeezenet1_1", "features.0", 4),
    },
    batch_size=2,
    rounds=2,
    decoded=8,
    rdms=(200, 400),
    options=4,
)


@dataclass(frozen=True)
class Stage:
    """Where the checks run."""

    device: str
    is_pretended: bool
    """Whether a CPU stands in for a GPU."""
    photographs: Path
    weights: Path | None
    """Folder of trained weights, if any."""
    scratch: Path
    closing: ExitStack = field(default_factory=ExitStack)
    """Close it at the end."""

    @cached_property
    def weights_dir(self) -> Path:
        """The weights folder of servers, which write into it: links to trained weights, if any."""
        folder = self.scratch / "weights"
        folder.mkdir(exist_ok=True)
        for source in self.weights.iterdir() if self.weights else ():
            if not (folder / source.name).exists():
                (folder / source.name).symlink_to(source.resolve())
        return folder

    @cached_property
    def server(self) -> ServerProcess:
        """A server in a process of its own, for all rows."""
        from ..server import serve

        # If this process is killed, the server must not keep the device.
        ends_with_this = f"--parent={os.getpid()}"
        options = (f"--device={self.device}", ends_with_this, "--untried-options")
        log = self.scratch / "server.log"
        server = self.closing.enter_context(
            serve(log, f"--weights-dir={self.weights_dir}", *options)
        )
        server.wait_until_idle()
        return server

    @property
    def sizes(self) -> Sizes:
        """Return how much is measured here."""
        return SMALL if self.is_pretended else FULL

    def images(self, count: int) -> list[str]:
        """Return the paths of so many photographs, copies of a few."""
        from ..photographs import copy_photographs

        folder = self.scratch / "photographs"
        if len(list(folder.glob("*"))) < count:
            copy_photographs(self.photographs, count, folder)
        return [str(path) for path in sorted(folder.iterdir())[:count]]
