"""The table of attacks, and what an attack gets.

An attack does its worst once, within some seconds, and asserts how the server answers. Whoever runs
it (a test, the soak, the bench) asserts the rest: a second client's calls are answered, no call
ends INTERNAL, and the server's process lives on within its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MODEL = "torchvision/squeezenet1_1@random:0"
MODULE = "features.0"


@dataclass(frozen=True)
class Target:
    """The server under attack, photographs, and an empty folder for the attack's own files."""

    address: str
    process: psutil.Process
    photos: Sequence[Path]
    folder: Path


@dataclass(frozen=True)
class Attack:
    """An attack; the long ones run where `--all` is given."""

    name: str
    run: Callable[[Target], None]
    is_long: bool

    @property
    def sentence(self) -> str:
        """What it does, for tables."""
        return (self.run.__doc__ or self.name).partition("\n")[0]


ATTACKS: dict[str, Attack] = {}


def attack(*, is_long: bool = False) -> Callable[[Callable[[Target], None]], Callable[..., None]]:
    """Add a function to the table, under its name."""

    def add(run: Callable[[Target], None]) -> Callable[[Target], None]:
        name = run.__name__.replace("_", "-")
        assert name not in ATTACKS, f"two attacks are called {name}"
        ATTACKS[name] = Attack(name, run, is_long)
        return run

    return add
