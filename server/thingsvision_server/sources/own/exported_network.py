"""The modules of an exported program, for hooks, and what runs its operators.

The modules compute nothing: the program calls each of them with what it returned when the network
was traced. They have the names, parameters and buffers of the network's modules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.export.graph_signature import InputKind
from torch.utils._pytree import SequenceKey

from ..uploads.exported_outline import Outline, OutlinedModule

_CONSTANT = "constant "
"""Begins the name of a buffer of the network itself that is none of the user's."""


class Part(nn.Module):
    """A module of the network; returns what it is given."""

    def __init__(self, outlined: OutlinedModule) -> None:
        super().__init__()
        self.outlined = outlined

    def forward(self, output: Any) -> Any:
        """Return the output that the program computed for this module."""
        return output

    def attach(self, name: str, part: Part) -> None:
        """Add a part inside; its name may be that of a method, as a user's may."""
        self._modules[name] = part

    def hold(self, name: str, tensor: torch.Tensor, *, is_kept: bool = True) -> None:
        """Add a parameter or buffer; what is kept is in state dicts."""
        if isinstance(tensor, nn.Parameter):
            self._parameters[name] = tensor
        else:
            self._buffers[name] = tensor
            if not is_kept:
                self._non_persistent_buffers_set.add(name)

    def held(self, name: str) -> torch.Tensor:
        """Return a parameter or buffer."""
        found = self._parameters.get(name)
        return self._buffers[name] if found is None else found  # type: ignore[return-value]

    def extra_repr(self) -> str:
        """Return the attributes that the module itself had."""
        return self.outlined.attributes


@dataclass(frozen=True)
class Code:
    """The operators of a program, which all replicas share: they have no state."""

    written: frozenset[int]
    """Numbers of the inputs that it overwrites, which are copied first."""
    function: fx.GraphModule
    images: fx.Node
    """The input of images, as it was traced."""
    ranges: dict[Any, Any]
    """Valid sizes by symbol."""

    def __deepcopy__(self, _memo: Any) -> Code:
        return self

    def check_sizes(self, images: torch.Tensor) -> None:
        """Raise RuntimeError if the program is not one for images of this shape."""
        from torch._export.utils import _check_input_constraints_for_graph

        place: tuple[Any, ...] = (SequenceKey(0), SequenceKey(0))  # for its sentence: `*args[0]`
        _check_input_constraints_for_graph([self.images], [(place, images)], self.ranges)


class Runner(nn.Module):
    """Runs a program; its parts are modules of a hierarchy, not its own."""

    def __init__(
        self,
        code: Code,
        parts: tuple[Part, ...],
        places: tuple[tuple[Part, str] | None, ...],
    ) -> None:
        super().__init__()
        self._code = code
        self._parts_called = parts
        self._places = places
        """Of each placeholder: the part and the name of its tensor; None: the images."""

    def forward(self, images: torch.Tensor) -> None:
        """Run all operators."""
        self._code.check_sizes(images)
        contexts: list[Any] = []
        values = [images if place is None else place[0].held(place[1]) for place in self._places]
        for number in self._code.written:
            values[number] = values[number].clone()
        try:
            self._code.function(*values, contexts, self._parts_called)
        finally:
            while contexts:
                contexts.pop().__exit__(None, None, None)


class Hierarchy:
    """The parts of a network by name, with their tensors, made as they are asked for."""

    def __init__(self, outline: Outline) -> None:
        self._outlined = {module.name: module for module in outline.modules}
        self._prefix = outline.prefix
        self.root = Part(self._outlined.get("", OutlinedModule("")))
        self._parts: dict[str, Part] = {"": self.root}
        for name in (*outline.registered, *self._outlined):
            self.part(name)

    def part(self, name: str) -> Part:
        """Return the part of a name."""
        if name not in self._parts:
            outer, _, last = name.rpartition(".")
            self._parts[name] = Part(self._outlined.get(name, OutlinedModule(name)))
            self.part(outer).attach(last, self._parts[name])
        return self._parts[name]

    def add(self, path: str, tensor: torch.Tensor, *, is_kept: bool = True) -> tuple[Part, str]:
        """Add a parameter or buffer to its part, and return the part and the name there."""
        outer, _, last = path.removeprefix(self._prefix).rpartition(".")
        part = self.part(outer)
        part.hold(last, tensor, is_kept=is_kept)
        return part, last


def place_tensors(
    program: torch.export.ExportedProgram, outline: Outline, hierarchy: Hierarchy
) -> Iterator[tuple[Part, str] | None]:
    """Put a program's tensors into the parts, and yield the place of each of its inputs."""
    state, constants, prefix = program.state_dict, program.constants, outline.prefix
    # Files may have a tensor of several names several times.
    for other, name in outline.shared.items():
        if prefix + name in state and prefix + other in state:
            state[prefix + other] = state[prefix + name]
    for number, spec in enumerate(program.graph_signature.input_specs):
        path = spec.target or ""
        if spec.kind is InputKind.USER_INPUT:
            yield None
        elif path in state:
            yield hierarchy.add(path, state[path])
        elif spec.kind is InputKind.BUFFER:
            yield hierarchy.add(path, constants[path], is_kept=False)
        else:
            yield hierarchy.add(f"{_CONSTANT}{number}", constants[path], is_kept=False)
    for path, tensor in state.items():
        hierarchy.add(path, tensor)
    for other, name in outline.shared.items():
        known = state.get(prefix + name, state.get(prefix + other))
        if known is not None:
            hierarchy.add(prefix + other, known)
            hierarchy.add(prefix + name, known)
