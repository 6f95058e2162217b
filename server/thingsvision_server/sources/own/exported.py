"""Complete models as `torch.export` programs (.pt2), with the network's own module names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.export.passes import move_to_device_pass

from ...backends.axes import with_axes
from ...backends.base import NetworkError, RunnableModel
from ...backends.device_faults import is_out_of_memory
from ...backends.modules import CallInfo, ModuleInfo, Structure
from ...backends.torch.model import TorchModel
from ...backends.torch.structure import Tower, describe
from ...errors import InvalidWeightsError, input_shape_error, no_memory_error
from ...inputs import IMAGE, InputSpec
from ..uploads.exported_check import image_size, read_program
from ..uploads.exported_outline import Outline
from ..uploads.exported_program import load_program
from .exported_calls import call_outputs
from .exported_graph import FlatGraph, written_inputs
from .exported_network import Code, Hierarchy, Part, Runner, place_tensors

_NEVER_CALLED = "it is never called itself; request a module inside it"

_NO_PROGRAM = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What PyTorch raises if it can't make sense of a program."""


class ExportedModel:
    """A program in a file, checked again before any part of it is loaded."""

    def __init__(self, path: Path, called: str) -> None:
        self._path, self._called = path, called
        self.image_counts, self.input_shape = image_size(read_program(path, called).content)

    def structure(self, shape: tuple[int, ...], counts: tuple[int, int]) -> Structure:
        """Return the modules, found by forward passes over images of zeros."""
        network = _load(self._path, self._called, "cpu")
        tower = Tower(network.runner, InputSpec(shape))
        try:
            structure = describe(network.root, {IMAGE: tower}, counts)
        except NetworkError as error:
            raise input_shape_error(self._called, shape, error) from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise no_memory_error(self._called, shape, error) from error
        recorded = network.as_recorded(structure)
        # Their own classes are known only now.
        return replace(recorded, modules=tuple(with_axes(recorded.modules, {IMAGE: tower.spec})))

    def load(self, device: str) -> RunnableModel:
        """Load the network onto a device."""
        network = _load(self._path, self._called, device)
        # Its operators assume the strides of the traced tensors: another memory format could
        # give wrong values silently.
        return TorchModel(network.root, device, {IMAGE: network.runner}, is_traced=True)


@dataclass(frozen=True)
class _Network:
    """A program's modules, and what runs it."""

    hierarchy: Hierarchy
    runner: Runner
    outline: Outline

    @property
    def root(self) -> Part:
        """The network itself."""
        return self.hierarchy.root

    def as_recorded(self, structure: Structure) -> Structure:
        """Return modules with their own classes, in their own order, with all reasons."""
        order = {module.name: place for place, module in enumerate(self.outline.modules)}
        running = {module.name for module in structure.modules if module.calls}
        modules = [self._as_recorded(one, running) for one in structure.modules]
        modules.sort(key=lambda module: order.get(module.name, len(order)))
        return Structure(tuple(modules), structure.state_bytes)

    def _as_recorded(self, info: ModuleInfo, running: set[str]) -> ModuleInfo:
        outlined = self.hierarchy.part(info.name).outlined
        classes = tuple(name for name in outlined.classes if "." in name)
        info = replace(info, type=outlined.type, classes=classes)
        if reason := self.outline.reasons.get(info.name, ""):
            calls = tuple(replace(call, reason=reason) for call in info.calls)
            return replace(info, calls=calls or (CallInfo(reason=reason),), reason=reason)
        inside = next((name for name in sorted(running) if name.startswith(f"{info.name}.")), "")
        if inside and not info.calls:
            return replace(info, reason=f"{_NEVER_CALLED}, such as {inside!r}")
        return info


def _load(path: Path, called: str, device: str) -> _Network:
    """Return the network with the module hierarchy that it was exported with."""
    program = read_program(path, called)
    try:
        exported = load_program(path, program.content)
        network = _build(move_to_device_pass(exported, device), program.outline)
    except _NO_PROGRAM as error:
        why = str(error).strip().rpartition("\n")[2]
        raise InvalidWeightsError(f"{called} can't be loaded: {why}", subject=called) from error
    network.root.eval().requires_grad_(False)
    return network


def _build(exported: torch.export.ExportedProgram, recorded: Outline | None) -> _Network:
    flat = FlatGraph(exported)
    outline = call_outputs(flat, exported) if recorded is None else recorded
    _check_marks(flat, recorded)
    hierarchy = Hierarchy(outline)
    places = tuple(place_tensors(exported, outline, hierarchy))
    images = exported.graph_module.graph.find_nodes(op="placeholder")[places.index(None)]
    code = Code(written_inputs(flat), flat.compile(), images, exported.range_constraints)
    parts = tuple(map(hierarchy.part, outline.marks))
    return _Network(hierarchy, Runner(code, parts, places), outline)


def _check_marks(flat: FlatGraph, recorded: Outline | None) -> None:
    known = len(recorded.marks) if recorded else 0
    if not all(0 <= number < known for _, number in flat.marks):
        raise ValueError(
            "its record of modules is incomplete; send the network again with "
            "get_extractor_from_model"
        )
