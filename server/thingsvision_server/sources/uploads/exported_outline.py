"""Reads what the client recorded beside a program: the modules of the network, and their outputs.

Marks in the program's graph say where a module returned a tensor; each has a number, and the file
has the module's name by number. Names are text for lists, and never become code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OUTLINE = "extra/thingsvision.json"
"""Path of the file in the archive."""

MARK = "torch.ops.thingsvision.output.default"
"""The operator of a mark: (tensor, number)."""

PREFIX = "network."
"""What a recorded program puts before the names of the network's modules and tensors."""

_SCHEMA = "output(Tensor x, int number) -> ()"
_KEPT: list[Any] = []

_VERSION = 1
_MOST_BYTES = 64 * 1024 * 1024
_LONGEST = 1000
"""Length of a name, and of a module's attributes, letters."""


@dataclass(frozen=True)
class OutlinedModule:
    """One module of a network."""

    name: str
    classes: tuple[str, ...] = ()
    """As in ModuleInfo."""
    attributes: str = ""

    @property
    def type(self) -> str:
        """The name of its class."""
        return self.classes[0].rpartition(".")[2] if self.classes else "Module"


@dataclass(frozen=True)
class Outline:
    """A network's modules, the first to start first, and what is known of their outputs."""

    modules: tuple[OutlinedModule, ...]
    registered: tuple[str, ...] = ()
    """Names in the order in which the network has its modules."""
    marks: tuple[str, ...] = ()
    """Names of the modules that return what the marks see, by the marks' numbers."""
    shared: Mapping[str, str] = field(default_factory=dict)
    """Further names of parameters and buffers, and the name that each of them is known by."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why modules can't be extracted, where a pass does not show it."""
    prefix: str = ""
    """What the program puts before the names of parameters and buffers."""


def read_outline(content: bytes) -> Outline:
    """Return what an archive's outline says; raise ValueError if it is not an outline."""
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{OUTLINE} in it has {len(content):,} bytes")
    written = json.loads(content)
    if written["version"] != _VERSION:
        raise ValueError(
            f"{OUTLINE} in it has version {written['version']!r}, and this server reads {_VERSION}"
        )
    return Outline(
        modules=tuple(map(_module, written["modules"])),
        registered=tuple(map(_text, written["registered"])),
        marks=tuple(map(_text, written["marks"])),
        shared=_texts(written["shared"]),
        reasons={
            name: f"its output is a {kind}, without a tensor"
            for name, kind in _texts(written["without_tensor"]).items()
        },
        prefix=PREFIX,
    )


def define_mark() -> None:
    """Define the operator of marks, so that PyTorch can read and run graphs that have it."""
    import torch

    if not hasattr(torch.ops.thingsvision, "output"):  # a client in the same process has it too
        library: Any = torch.library.Library("thingsvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        library.define(_SCHEMA)
        library.impl("output", lambda _x, _number: None, "CompositeExplicitAutograd")
        _KEPT.append(library)  # operators of a library end with it
    torch.fx.has_side_effect(torch.ops.thingsvision.output.default)


def _module(written: Mapping[str, Any]) -> OutlinedModule:
    classes = tuple(map(_text, written["classes"]))
    return OutlinedModule(_text(written["name"]), classes, _text(written.get("attributes", "")))


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in values.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not (value.isprintable() or not value):
        raise ValueError(f"{OUTLINE} in it must have printable names, got {value!r}")
    return value[:_LONGEST]
