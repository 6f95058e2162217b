"""Records of walks, a line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "docs" / "zoo.jsonl"

LISTED, RUN = "listed", "run"
"""How far a walk went: its modules were listed, or also run and compared."""

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "keras": ("keras", "tensorflow"),
    "timm": ("timm", "torch"),
    "torchvision": ("torchvision", "torch"),
}
_OTHERS = ("torch", "timm", "open-clip-torch", "transformers")


@dataclass(frozen=True)
class Walk:
    """One model that was walked."""

    source: str
    name: str
    walked: str
    parameters: int
    input_shape: list[int]
    modules: int
    extractable: int
    reasons: dict[str, int]
    """Why modules are not extractable, and how many."""
    seconds: float
    date: str
    versions: dict[str, str]
    run_shape: list[int] = field(default_factory=list)
    """Shape of the inputs of the forward pass; empty if there was none."""

    @property
    def model(self) -> str:
        """Its source and name."""
        return f"{self.source}/{self.name}"

    @property
    def is_current(self) -> bool:
        """Tell whether the libraries are still the same."""
        return self.versions == versions(self.source)


def versions(source: str) -> dict[str, str]:
    """Return the versions of the libraries that models of a source are made of."""
    return {library: _version(library) for library in LIBRARIES.get(source, _OTHERS)}


# Each call reads a file, and every remembered walk asks.
_version = cache(version)


def read_walks(path: Path = FILE) -> dict[str, Walk]:
    """Return the last walk of each model that went farthest, of the libraries installed here."""
    return _read_walks(path, path.stat().st_mtime_ns) if path.is_file() else {}


@lru_cache(1)
def _read_walks(path: Path, _changed: int) -> dict[str, Walk]:
    found: dict[str, Walk] = {}
    for line in path.read_text().splitlines():
        walk = Walk(**json.loads(line))
        known = found.get(walk.model)
        if walk.is_current and (known is None or walk.walked == RUN or known.walked != RUN):
            found[walk.model] = walk
    return found


def add_walk(walk: Walk, path: Path = FILE) -> None:
    """Append a walk in one write, so that several processes may."""
    line = json.dumps(asdict(walk), separators=(",", ":")) + "\n"
    with path.open("a") as file:
        file.write(line)


def write_walks(walks: Mapping[str, Walk], path: Path = FILE) -> None:
    """Write walks sorted by model, one line each."""
    lines: list[Any] = [asdict(walks[model]) for model in sorted(walks)]
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
