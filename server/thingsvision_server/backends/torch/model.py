"""Runs PyTorch networks and copies the outputs of their modules."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from queue import Empty, LifoQueue
from typing import Any

import torch
from torch import nn

from ...inputs import IMAGE
from ..base import BatchRun, OutOfDeviceMemoryError, Supported
from ..compute_options import DEFAULT, ComputeOptions, MemoryFormat, Precision
from ..offloading import OffloadedModel
from ..taps import Tap
from .compilation import CompiledPasses, Outputs
from .device import arithmetic, release_memory, translate_out_of_memory
from .faults import call_network
from .layout import to_memory_format, translate_view_errors
from .max_pools import FastMaxPool, has_max_pools
from .shortcuts import SHORTCUTS
from .structure import first_tensor

_HOST = torch.device("cpu")


class _LastTapReached(BaseException):
    """Stops a forward pass; a network's own `except Exception` must not catch it."""


class _TapHook:
    """A forward hook that copies a module's output before a later operation can overwrite it."""

    def __init__(self, tap: Tap, image_count: int, device: torch.device) -> None:
        self.tap = tap
        self.calls = 0
        pinned = device.type == "cuda"
        self.rows = torch.empty((image_count, *tap.output_shape), pin_memory=pinned)

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if self.calls in self.tap.calls:
            self._copy(first_tensor(output), self.tap.calls.index(self.calls))
        self.calls += 1

    def _copy(self, tensor: torch.Tensor, place: int) -> None:
        expected = [len(self.rows), *self.tap.call_shape]
        if list(tensor.shape) != expected:
            found = list(tensor.shape)
            raise RuntimeError(f"module {self.tap.name!r} returned {found} instead of {expected}")
        rows = self.rows[:, place] if self.tap.is_stacked else self.rows
        parts = self.tap.reduce(tensor)
        for target, part in zip(rows.chunk(len(parts), dim=-1), parts, strict=True):
            # On a GPU the copy is queued after the module and before the next operation.
            target.copy_(part, non_blocking=True)

    def copy_outputs(self, outputs: Outputs) -> None:
        """Copy the outputs of a finished pass; of a padded batch, only the rows of its images."""
        for place, call in enumerate(self.tap.calls):
            self._copy(outputs[self.tap.module][call][: len(self.rows)], place)

    @property
    def is_complete(self) -> bool:
        return self.calls > self.tap.calls[-1]


@dataclass(frozen=True)
class _Network:
    """A network with its towers, for one pass at a time, as its modules carry hooks."""

    root: nn.Module
    towers: Mapping[str, nn.Module]

    @cached_property
    def modules(self) -> Mapping[str, nn.Module]:
        return dict(self.root.named_modules())

    def replicate(self) -> _Network:
        """Return a copy of the modules that shares all parameters and buffers."""
        shared = {id(one): one for one in [*self.root.parameters(), *self.root.buffers()]}
        root, towers = copy.deepcopy((self.root, dict(self.towers)), shared)
        return _Network(root, towers)


class TorchModel:
    """A network in evaluation mode on one device; `towers` are its parts by modality.

    `model_sha256` is the digest of its weights, computed if left out; `weights_part` is the part of
    an uploaded file that they are. A network that `is_traced`
    was recorded with one memory format and only runs with that, uncompiled.
    """

    framework = f"torch {torch.__version__}"
    is_concurrent = True

    def __init__(
        self,
        network: nn.Module,
        device: str,
        towers: Mapping[str, nn.Module] | None = None,
        *,
        model_sha256: str = "",
        weights_part: str = "",
        is_traced: bool = False,
    ) -> None:
        self._device = torch.device(device)
        self._is_traced = is_traced
        on_gpu = self._device.type == "cuda"
        self.supported: Supported = _options_of(on_gpu=on_gpu, is_traced=is_traced)
        self.weights_part = weights_part
        self.model_sha256 = model_sha256 or state_sha256(network)
        with translate_out_of_memory():
            root = network.eval().requires_grad_(False).to(self._device)
        self.resident_bytes = resident_bytes(root)
        self._fast_max_pool = SHORTCUTS.fast_max_pool and not on_gpu and has_max_pools(root)
        # It never runs itself, so that replicas of it have neither hooks nor the state of a pass.
        self._first: _Network | None = _Network(root, dict(towers or {IMAGE: network}))
        self._forget_passes()

    def _forget_passes(self) -> None:
        self._idle: LifoQueue[_Network] = LifoQueue()
        self._compiled = CompiledPasses(self._make_replica)

    def _make_replica(self) -> tuple[nn.Module, Mapping[str, nn.Module]]:
        replica = self._open().replicate()
        return replica.root, replica.towers

    @property
    def network(self) -> nn.Module:
        """The network."""
        return self._open().root

    @property
    def towers(self) -> Mapping[str, nn.Module]:
        """Its parts by modality."""
        return self._open().towers

    def _open(self) -> _Network:
        if self._first is None:
            raise RuntimeError("the model was closed while in use")
        return self._first

    def run(
        self, inputs: Sequence[Any], taps: Sequence[Tap], options: ComputeOptions = DEFAULT
    ) -> BatchRun:
        """Return the activations of each tap, images x shape; the pass stops after the last tap."""
        started = time.monotonic()
        with translate_out_of_memory():
            # Tensors sent by a user arrive as arrays; `as_tensor` shares their memory.
            tensors = [torch.as_tensor(one) for one in inputs]
            batch = torch.stack(tensors).to(self._device, non_blocking=True)
            batch = to_memory_format(batch, options.memory_format)
            hooks = [_TapHook(tap, len(inputs), self._device) for tap in taps]
            copied_at = time.monotonic()
            with (
                arithmetic(self._device, options.precision),
                translate_view_errors(options.memory_format),
            ):
                if options.compiled:
                    self._run_compiled(batch, hooks, options)
                else:
                    self._run_eagerly(batch, hooks)
            if self._device.type == "cuda":
                torch.cuda.current_stream(self._device).synchronize()
        rows = [hook.rows.numpy() for hook in hooks]
        return BatchRun(rows, copied_at - started, time.monotonic() - copied_at)

    def _run_compiled(
        self, batch: torch.Tensor, hooks: list[_TapHook], options: ComputeOptions
    ) -> None:
        modules = frozenset(hook.tap.module for hook in hooks)
        outputs = self._compiled.run(hooks[0].tap.modality, modules, batch, options)
        for hook in hooks:
            hook.copy_outputs(outputs)

    def _run_eagerly(self, batch: torch.Tensor, hooks: list[_TapHook]) -> None:
        pools = FastMaxPool() if self._fast_max_pool else nullcontext()
        with self._idle_network() as network, pools:
            _forward(network, batch, hooks)

    @contextmanager
    def _idle_network(self) -> Iterator[_Network]:
        """Yield an idle network, or a new replica if all are in use."""
        first, idle = self._open(), self._idle
        try:
            network = idle.get_nowait()
        except Empty:
            network = first.replicate()
        try:
            yield network
        finally:
            # If the model was closed in the meantime, nothing references this queue any more.
            idle.put(network)

    def close(self) -> None:
        """Return the memory of the network to the device and the system."""
        self._first = None
        self._forget_passes()
        release_memory(self._device)

    def offload(self) -> OffloadedModel:
        """Close the model and keep its weights in the host's memory; raise MemoryError if full."""
        first = self._open()
        # Replicas would keep their buffers and the state of their passes on the device.
        self._first = None
        self._forget_passes()
        try:
            with translate_out_of_memory():
                root = first.root.to("cpu")
        except OutOfDeviceMemoryError as error:
            raise MemoryError(str(error)) from error
        finally:
            release_memory(self._device)
        restore = partial(
            TorchModel,
            root,
            str(self._device),
            first.towers,
            model_sha256=self.model_sha256,
            weights_part=self.weights_part,
            is_traced=self._is_traced,
        )
        return OffloadedModel(restore, partial(release_memory, _HOST))


def _options_of(*, on_gpu: bool, is_traced: bool) -> Supported:
    precisions = tuple(Precision) if on_gpu else (Precision.FLOAT32, Precision.BFLOAT16)
    if is_traced:
        return {"precision": precisions}
    return {
        "precision": precisions,
        "memory_format": tuple(MemoryFormat),
        "compiled": (False, True),
    }


def _forward(network: _Network, batch: torch.Tensor, tap_hooks: list[_TapHook]) -> None:
    """Run a batch up to the last tap."""

    def stop_after_last(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        if all(hook.is_complete for hook in tap_hooks):
            raise _LastTapReached

    tapped = [(network.modules[hook.tap.module], hook) for hook in tap_hooks]
    hooks: list[tuple[nn.Module, Callable[..., None]]] = [
        *tapped,
        *((module, stop_after_last) for module, _ in tapped),
    ]
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        with torch.inference_mode():
            call_network(network.towers[tap_hooks[0].tap.modality], batch)
    except _LastTapReached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    for hook in tap_hooks:
        if not hook.is_complete:
            sentence = f"module {hook.tap.module!r} ran {hook.calls} times; {hook.tap.name!r}"
            raise RuntimeError(f"{sentence} needs {hook.tap.calls[-1] + 1}")


def resident_bytes(network: nn.Module) -> int:
    """Return the memory of all parameters and buffers, counting shared memory once, bytes."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in [*network.parameters(), *network.buffers()]
    }
    return sum(storages.values())


def state_sha256(network: nn.Module) -> str:
    """Return SHA-256 over name, type, shape and bytes of the state dict's tensors, hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()
