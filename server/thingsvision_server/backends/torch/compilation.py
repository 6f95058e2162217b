"""Compiles a network's forward pass up to its last tap with torch.compile, and caches the code.

Compiled code is for one set of modules, one batch shape and one set of options. It rounds in its
own way, the same each time: outputs differ from those of an eager pass in the last bits only.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType
from typing import Any

import structlog
import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from ...errors import PreconditionError
from ..compute_options import ComputeOptions
from .device import CudaGraphs
from .offered import records_passes
from .recorded import Outputs, Pass, RecordedPass
from .structure import first_tensor

_MAX_PASSES = 8
"""Size of a network's cache of compiled passes; the least recently used is evicted first."""

_log = structlog.get_logger(__name__)


class CompiledPasses:
    """A cache of the compiled passes of one network; threads may share it.

    `replicate` returns a replica that shares all weights with the network: its root and its towers.
    Hooks stay on replicas, because they are part of the compiled code.
    """

    def __init__(self, replicate: Callable[[], tuple[nn.Module, Mapping[str, nn.Module]]]) -> None:
        self._replicate = replicate
        self._passes: OrderedDict[Any, _CompiledPass] = OrderedDict()
        self._lock = threading.Lock()

    def run(
        self, tower: str, modules: frozenset[str], batch: torch.Tensor, options: ComputeOptions
    ) -> Outputs:
        """Return the modules' outputs for a batch; the first call takes up to minutes.

        Raises PreconditionError if the network can't be compiled.
        """
        key = (tower, modules, batch.shape, options)
        with self._lock:
            if key not in self._passes:
                self._passes[key] = _CompiledPass(partial(self._make_pass, tower, modules))
            self._passes.move_to_end(key)
            if len(self._passes) > _MAX_PASSES:
                self._passes.popitem(last=False)
            found = self._passes[key]
        with torch.inference_mode():
            return found(batch)

    def _make_pass(self, tower: str, modules: frozenset[str]) -> Pass:
        root, towers = self._replicate()
        return _pass_with_taps(towers[tower], {name: root.get_submodule(name) for name in modules})


class _CompiledPass:
    """A pass that is compiled on its first call."""

    def __init__(self, make: Callable[[], Pass]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._compiled: Pass | None = None

    def __call__(self, batch: torch.Tensor) -> Outputs:
        with self._lock:
            if self._compiled is None:
                self._compiled = _record(_compile(self._make(), batch), batch)
        return self._compiled(batch)


def _compile(whole: Pass, batch: torch.Tensor) -> Pass:
    # One thread: otherwise torch starts processes for it, which stay alive.
    options: dict[str, Any] = {"compile_threads": 1}
    compiled: Pass = torch.compile(whole, fullgraph=True, dynamic=False, options=options)
    started = time.monotonic()
    try:
        compiled(batch)
    except TorchDynamoException as error:
        reason = str(error).strip().partition("\n")[0]
        raise PreconditionError(
            f"torch.compile can't compile this network here ({reason}); leave out `compiled`",
            field="compiled",
        ) from error
    _log.info("compiled a pass", seconds=round(time.monotonic() - started, 1))
    return compiled


def _record(compiled: Pass, batch: torch.Tensor) -> Pass:
    """Return the pass as a CUDA graph, if these are used here."""
    if not records_passes(on_gpu=batch.is_cuda):
        return compiled
    return RecordedPass(compiled, batch, CudaGraphs(batch.device))


def _pass_with_taps(tower: nn.Module, taps: Mapping[str, nn.Module]) -> Pass:
    """Return a pass that returns the outputs of modules and computes nothing after them."""
    outputs: dict[str, list[torch.Tensor]] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            # A later operation may overwrite it; the compiler drops clones that are not needed.
            outputs.setdefault(name, []).append(first_tensor(output).clone())

        return keep

    def run(batch: torch.Tensor) -> Outputs:
        outputs.clear()
        tower(batch)
        found = dict(outputs)
        outputs.clear()
        return found

    for name, module in taps.items():
        module.register_forward_hook(hook(name))
    return _with_own_code(run)  # type: ignore[arg-type]


def _with_own_code(function: FunctionType) -> FunctionType:
    """Return the function with a copy of its code: torch limits compilations per code object."""
    code = function.__code__.replace()
    return FunctionType(code, function.__globals__, closure=function.__closure__)
