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
from ..base import BatchRun, OutOfDeviceMemoryError, Rows, Supported
from ..compute_options import DEFAULT, ComputeOptions
from ..offloading import OffloadedModel
from ..taps import Tap
from .compilation import CompiledPasses
from .device import (
    arithmetic,
    lane_streams,
    release_memory,
    translate_out_of_memory,
    wait_for_weights,
)
from .faults import call_network, refuse_spoiled_inputs
from .layout import to_memory_format, translate_view_errors
from .max_pools import FastMaxPool, has_max_pools
from .offered import offered_options, untried_options
from .recorded import Outputs
from .shortcuts import SHORTCUTS
from .streams import DeviceStreams
from .structure import first_tensor

_HOST = torch.device("cpu")


class _LastTapReached(BaseException):
    """Stops a forward pass; a network's own `except Exception` must not catch it."""


class _TapHook:
    """A forward hook that copies a module's output before a later operation can overwrite it."""

    def __init__(self, tap: Tap, image_count: int, streams: DeviceStreams) -> None:
        self.tap = tap
        self.calls = 0
        self._streams = streams
        self._rows = streams.empty_rows((image_count, *tap.output_shape))
        self._host_rows: torch.Tensor | None = None

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if self.calls in self.tap.calls:
            self._keep(first_tensor(output), self.tap.calls.index(self.calls))
        self.calls += 1
        if self.is_complete:
            self._unload()

    def _keep(self, tensor: torch.Tensor, place: int) -> None:
        expected = [len(self._rows), *self.tap.call_shape]
        if list(tensor.shape) != expected:
            found = list(tensor.shape)
            raise RuntimeError(f"module {self.tap.name!r} returned {found} instead of {expected}")
        rows = self._rows[:, place] if self.tap.is_stacked else self._rows
        parts = self.tap.reduce(tensor)
        for target, part in zip(rows.chunk(len(parts), dim=-1), parts, strict=True):
            self._streams.keep(target, part)

    def _unload(self) -> None:
        if self._host_rows is None:
            self._host_rows = self._streams.unload(self._rows)

    def copy_outputs(self, outputs: Outputs) -> None:
        """Copy the outputs of a finished pass; of a padded batch, only the rows of its images."""
        for place, call in enumerate(self.tap.calls):
            self._keep(outputs[self.tap.module][call][: len(self._rows)], place)
        self._unload()

    @property
    def is_complete(self) -> bool:
        return self.calls > self.tap.calls[-1]

    def read(self) -> Rows:
        """Return the rows, after the streams have finished."""
        if self._host_rows is None:
            raise RuntimeError(f"the pass never copied the rows of {self.tap.name!r}")
        rows: Rows = self._host_rows.numpy()
        return rows


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
    is_foreign = False

    def __init__(
        self,
        network: nn.Module,
        device: str,
        towers: Mapping[str, nn.Module] | None = None,
        *,
        model_sha256: str = "",
        weights_part: str = "",
        is_traced: bool = False,
        open_streams: Callable[[torch.device], DeviceStreams] = lane_streams,
    ) -> None:
        self._device = torch.device(device)
        self._is_traced = is_traced
        self._open_streams = open_streams
        on_gpu = self._device.type == "cuda"
        self.supported: Supported = offered_options(on_gpu=on_gpu, is_traced=is_traced)
        self.untried: Supported = untried_options(on_gpu=on_gpu, is_traced=is_traced)
        self.weights_part = weights_part
        self.model_sha256 = model_sha256 or state_sha256(network)
        with translate_out_of_memory():
            root = network.eval().requires_grad_(False).to(self._device)
            wait_for_weights(self._device)
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
        # Shares the memory of arrays.
        pieces = [torch.as_tensor(one) for one in inputs]
        with (
            refuse_spoiled_inputs(pieces),
            translate_out_of_memory(),
            self._streams() as streams,
        ):
            batch = streams.load(pieces)
            loaded_at = time.monotonic()
            with (
                streams.use(),
                arithmetic(self._device, options.precision),
                translate_view_errors(options.memory_format),
            ):
                hooks = [_TapHook(tap, len(batch), streams) for tap in taps]
                batch = to_memory_format(batch, options.memory_format)
                if options.compiled:
                    self._run_compiled(batch, hooks, options)
                else:
                    self._run_eagerly(batch, hooks)
            queued_at = time.monotonic()
        finished_at = time.monotonic()
        return BatchRun(
            [hook.read() for hook in hooks],
            copy_seconds=loaded_at - started,
            forward_seconds=finished_at - loaded_at,
            wait_seconds=finished_at - queued_at,
        )

    @contextmanager
    def _streams(self) -> Iterator[DeviceStreams]:
        """Yield the streams of this lane, and let them finish."""
        streams = self._open_streams(self._device)
        try:
            yield streams
        finally:
            streams.finish()

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
            open_streams=self._open_streams,
        )
        return OffloadedModel(restore, partial(release_memory, _HOST))


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
