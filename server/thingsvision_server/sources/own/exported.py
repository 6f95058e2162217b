"""Complete models as `torch.export` programs (.pt2), with the network's own module names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export.passes import move_to_device_pass
from torch.export.unflatten import InterpreterModule, InterpreterModuleDispatcher

from ...backends.base import RunnableModel
from ...backends.modules import ModuleInfo, Structure
from ...backends.tensorflow.model import TensorFlowRuntime
from ...backends.torch.model import TorchModel
from ...backends.torch.structure import Tower, describe
from ...errors import InvalidWeightsError, input_shape_error
from ...inputs import IMAGE, InputSpec
from ..uploads.exported_check import image_size, read_program
from ..uploads.exported_program import load_program
from .exported_graph import lift_sizes

_NO_PROGRAM = (
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

    def __init__(self, path: Path, called: str, _tensorflow: TensorFlowRuntime) -> None:
        self._path, self._called = path, called
        self.image_counts, self.input_shape = image_size(read_program(path, called))

    def structure(self, shape: tuple[int, ...], counts: tuple[int, int]) -> Structure:
        """Return the modules, found by forward passes over images of zeros."""
        network = _load(self._path, self._called, "cpu")
        parts = dict(network.named_modules())
        try:
            structure = describe(network, {IMAGE: Tower(network, InputSpec(shape))}, counts)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise input_shape_error(self._called, shape, error) from error
        modules = (_as_exported(module, parts[module.name]) for module in structure.modules)
        return Structure(tuple(modules), structure.state_bytes)

    def load(self, device: str) -> RunnableModel:
        """Load the network onto a device."""
        # Its operators assume the strides of the traced tensors: another memory format could
        # give wrong values silently.
        return TorchModel(_load(self._path, self._called, device), device, is_traced=True)


def _load(path: Path, called: str, device: str) -> nn.Module:
    """Return the network with the module hierarchy that it was exported with."""
    program = read_program(path, called)
    try:
        exported = load_program(path, program)
        exported = move_to_device_pass(exported, device)
        lift_sizes(exported)
        network = torch.export.unflatten(exported)
    except _NO_PROGRAM as error:
        why = str(error).strip().rpartition("\n")[2]
        raise InvalidWeightsError(f"{called} can't be loaded: {why}", subject=called) from error
    _forget_tracing(network)
    network.register_forward_pre_hook(_begin_pass)
    return network.eval().requires_grad_(False)


def _forget_tracing(network: nn.Module) -> None:
    """Drop the metadata that tracing left in graphs: fake tensors, which can't be copied."""
    for module in network.modules():
        graph = getattr(module, "graph", None)
        if isinstance(graph, fx.Graph):
            for node in graph.nodes:
                node.meta.clear()


def _begin_pass(network: nn.Module, _inputs: Any) -> None:
    """Reset the call counters of repeated modules: a pass that ended early leaves them midway."""
    for module in network.modules():
        if isinstance(module, InterpreterModuleDispatcher):
            module._num_calls = 0  # noqa: SLF001 - PyTorch resets it only after an Exception


def _as_exported(info: ModuleInfo, module: nn.Module) -> ModuleInfo:
    """Return a module under its own class name, not extractable if it has several outputs."""
    kind = _type_name(module)
    info = replace(info, type=kind.rpartition(".")[2], classes=(kind,) if "." in kind else ())
    if not _has_several_outputs(module):
        return info
    reason = (
        "it has several outputs, and a program does not keep their order; request a module inside "
        "it"
    )
    calls = tuple(replace(call, reason=reason) for call in info.calls)
    return replace(info, calls=calls, reason=reason)


def _has_several_outputs(module: nn.Module) -> bool:
    """Return whether a module's outputs come in computing order, not in the order of its code."""
    if isinstance(module, InterpreterModuleDispatcher):
        calls: list[nn.Module] = module.call_modules()  # type: ignore[no-untyped-call]
        return any(map(_has_several_outputs, calls))
    if not isinstance(module, InterpreterModule):  # the whole network keeps its output order
        return False
    outputs = module.graph.output_node().args[0]
    return isinstance(outputs, tuple | list) and len(outputs) > 1


def _type_name(module: nn.Module) -> str:
    """Return the class that a module had when it was exported, with its Python module if known."""
    return str(getattr(module, "_ty", None) or type(module).__name__)
