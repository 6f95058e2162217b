"""The checks by name: tests in `tests/gpu`, then rows of figures. Imports no library."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..process import PROJECT

TESTS = PROJECT / "tests" / "gpu"


@dataclass(frozen=True)
class Check:
    """A check: `target` is a file of tests, or `module:function` in this package."""

    says: str
    target: Path | str
    limit_seconds: float = 60.0
    """It is ended after this time, together with its process."""


def _tests() -> Iterator[tuple[str, Check]]:
    for path in sorted(TESTS.glob("test_*.py")):
        first_line = path.read_text().partition("\n")[0]
        yield path.stem.removeprefix("test_"), Check(first_line.strip('"'), path)


CHECKS: Mapping[str, Check] = {
    **dict(_tests()),
    "resnet50": Check("resnet50 avgpool: service, local, limit", "features:resnet50", 120.0),
    "vit_b_16": Check("vit_b_16 encoder: service, local, limit", "features:vit_b_16", 120.0),
    "alexnet": Check("alexnet features.10: service, local, limit", "features:alexnet", 120.0),
    "early": Check("MB/s of alexnet features.0: service, local, limit", "features:early", 120.0),
    "options": Check("Gain and error of the options of a forward pass", "options:measure", 240.0),
    "decoding": Check("JPEGs decoded by the cores, and by the device", "decoding:measure"),
    "rdm": Check("RDMs of 10,000 and 50,000 x 4,096 features", "rdms:measure", 120.0),
}


def choose(patterns: Sequence[str]) -> list[str]:
    """Return the names that match a pattern, or all; exit if a pattern matches nothing."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in CHECKS):
            sys.exit(f"scripts/gpu: --only must be of {', '.join(CHECKS)}; got {pattern!r}")
    chosen = patterns or ["*"]
    return [name for name in CHECKS if any(fnmatchcase(name, one) for one in chosen)]
