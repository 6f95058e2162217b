"""Runs Keras models in a child process used by TensorFlow alone.

TensorFlow can't share a process with PyTorch (one order of imports aborts the process, and their
GPU builds exclude each other), and frees GPU memory only when its process ends.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np

from ...errors import (
    BackendCrashedError,
    InvalidRequestError,
    InvalidWeightsError,
    WeightsMismatchError,
)
from ..axes import with_axes
from ..base import DEFAULT_ONLY, BatchRun, NetworkError, OutOfDeviceMemoryError
from ..compute_options import DEFAULT, ComputeOptions
from ..modules import CallInfo, ModuleInfo, Structure
from ..taps import Tap
from .child.channel import Layout, Message, map_memory, open_memory
from .process import ChildProcess

_IDLE_SECONDS = 60.0
_NEVER_RUNS = "it does not run in a forward pass"


@dataclass(frozen=True)
class KerasNetwork:
    """The network to build: a class of a package's `applications`, or the file of a complete model.

    `published` says that Keras' own weights will be loaded: it builds some networks differently
    for them.
    """

    package: str = "keras"
    name: str = ""
    published: bool = False
    archive: str = ""
    """A `.keras` or `.h5` file, instead of a class."""
    options: tuple[tuple[str, str | None], ...] = ()
    """Arguments for the class."""


@dataclass(frozen=True)
class KerasFile:
    """A file that Keras publishes: its name in Keras' cache, its URL and its hash."""

    name: str
    url: str
    hash: str


@dataclass(frozen=True)
class KerasArchitecture:
    """A network without its weights: its structure, published file and preprocessing.

    Each channel of the family's own preprocessing is `scale` times the channel `source` of a
    pixel of 0 to 255, plus `offset`.
    """

    structure: Structure
    input_shape: tuple[int, ...]
    file: KerasFile | None
    family: str
    """The module that defines `preprocess_input`; empty if pixels are used unchanged."""
    source: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]


@dataclass(frozen=True)
class KerasWeights:
    """The weights to build a network with: a file or, if it is empty, a seed."""

    seed: int = 0
    file: str = ""


class TensorFlowRuntime:
    """The child process: started when a model needs it, ended when its last model is closed.

    A child that only described networks ends after a minute without requests. `python` is the
    interpreter of an environment with TensorFlow. Threads may share a runtime.
    """

    def __init__(self, python: str, *, keep_freed_memory: bool = True) -> None:
        self.python = python
        self._keep_freed_memory = keep_freed_memory
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._timer: threading.Timer | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the child; None if no child is running."""
        child = self._child
        return child.pid if child and not child.is_gone else None

    def describe(
        self, network: KerasNetwork, shape: tuple[int, ...] | None = None
    ) -> KerasArchitecture:
        """Return the architecture of a network, without loading its weights.

        `shape` is the input shape of a network that takes several: a pass over zeros shows the
        shapes of its outputs.
        """
        with self._use_child() as child:
            reply = child.build("describe", network=vars(network), shape=shape)
        _check(reply)
        return _architecture(reply)

    def preprocess(self, network: KerasNetwork, pixels: Any) -> Any:
        """Return pixels, height x width x 3 of uint8, as a network's family preprocesses them."""
        layout = Layout()
        layout.add(pixels.nbytes)
        layout.add(4 * pixels.size)
        descriptor = open_memory(layout.size_bytes)
        try:
            memory = map_memory(descriptor)
            np.copyto(_array_in(memory, pixels.shape, np.uint8, 0), pixels)
            with self._use_child() as child:
                reply = child.run(
                    "preprocess",
                    memory=descriptor,
                    network=vars(network),
                    shape=list(pixels.shape),
                    offset=layout.offsets[1],
                )
        finally:
            os.close(descriptor)
        _check(reply)
        return _array_in(memory, pixels.shape, np.float32, layout.offsets[1])

    def load(self, network: KerasNetwork, weights: KerasWeights, device: str) -> TensorFlowModel:
        """Build a network with weights on a device.

        Raises WeightsMismatchError and InvalidWeightsError; their messages don't name the file.
        """
        request = {"network": vars(network), "weights": vars(weights), "device": device}
        return TensorFlowModel(self, request)

    def acquire(self, model: str, request: Message) -> tuple[ChildProcess, Message]:
        """Load a model into the child, which then runs until `release`; for TensorFlowModel."""
        with self._use_child() as child:
            reply = child.build("load", model=model, **request)
            _check(reply)
            with self._lock:
                child.user_count += 1
        return child, reply

    def release(self, child: ChildProcess) -> None:
        """Release a model's hold on the child; releasing the last hold ends the process."""
        with self._lock:
            child.user_count -= 1
            if not child.user_count:
                child.end()

    @contextmanager
    def _use_child(self) -> Iterator[ChildProcess]:
        with self._lock:
            if self._child is None or self._child.is_gone:
                self._child = ChildProcess(self.python, keep_freed_memory=self._keep_freed_memory)
            child = self._child
            child.user_count += 1
        try:
            yield child
        finally:
            with self._lock:
                child.user_count -= 1
                self._schedule_end()

    def _schedule_end(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(_IDLE_SECONDS, self._end_if_idle)
        self._timer.daemon = True
        self._timer.start()

    def _end_if_idle(self) -> None:
        with self._lock:
            if self._child and not self._child.user_count:
                self._child.end()

    def close(self) -> None:
        """End the child if it holds no model; otherwise it ends when its last model is closed."""
        if self._timer:
            self._timer.cancel()
        self._end_if_idle()


class TensorFlowModel:
    """A Keras network with weights in the child process.

    Inputs are images of height x width x 3: pixels (uint8), which get the family's own
    preprocessing, or float32 values that are already preprocessed. After a crash of the child, the
    next run reloads the model into a new child.
    """

    is_concurrent = False
    supported = DEFAULT_ONLY
    weights_part = ""

    def __init__(self, runtime: TensorFlowRuntime, request: Message) -> None:
        self._runtime = runtime
        self._request = request
        self._name = uuid.uuid4().hex
        self._child, reply = runtime.acquire(self._name, request)
        self.framework: str = reply["framework"]
        self.model_sha256: str = reply["model_sha256"]
        self.resident_bytes: int = reply["resident_bytes"]

    def run(
        self,
        inputs: Sequence[Any],
        taps: Sequence[Tap],
        _options: ComputeOptions = DEFAULT,
    ) -> BatchRun:
        """Return the activations of each tap, images x shape; the pass stops after the last tap."""
        if self._child.is_gone:
            self._child, _ = self._runtime.acquire(self._name, self._request)
        count, first = len(inputs), inputs[0]
        layout = Layout()
        layout.add(count * first.nbytes)
        for tap in taps:
            layout.add(count * tap.row_bytes)
        descriptor = open_memory(layout.size_bytes)
        try:
            memory = map_memory(descriptor)
            np.stack(inputs, out=_array_in(memory, (count, *first.shape), first.dtype, 0))
            reply = self._child.run(
                "run",
                memory=descriptor,
                model=self._name,
                shape=[count, *first.shape],
                dtype=str(first.dtype),
                taps=list(map(_tap_message, taps, layout.offsets[1:])),
            )
        finally:
            os.close(descriptor)
        _check(reply)
        rows = [
            _array_in(memory, (count, *tap.output_shape), np.float32, place)
            for tap, place in zip(taps, layout.offsets[1:], strict=True)
        ]
        return BatchRun(rows, reply["copy_seconds"], reply["forward_seconds"])

    def close(self) -> None:
        """Free the memory; the child ends when its last model is closed."""
        if not self._child.is_gone:
            with suppress(BackendCrashedError):
                self._child.run("close", model=self._name)
            self._runtime.release(self._child)


def _tap_message(tap: Tap, offset: int) -> Message:
    return {
        "module": tap.module,
        "calls": tap.calls,
        "stacked": tap.is_stacked,
        "shape": tap.output_shape,
        "offset": offset,
    }


def _array_in(memory: Any, shape: tuple[int, ...], dtype: Any, offset: int) -> Any:
    return np.frombuffer(memory, dtype, prod(shape), offset).reshape(shape)


def _architecture(reply: Message) -> KerasArchitecture:
    file, affine = reply["file"], reply["preprocessing"]
    modules = with_axes(map(_module_info, reply["modules"]), {})
    return KerasArchitecture(
        structure=Structure(tuple(modules), reply["state_bytes"]),
        input_shape=tuple(reply["input_shape"]),
        file=KerasFile(**file) if file else None,
        family=affine["family"],
        source=tuple(affine["source"]),
        scale=tuple(affine["scale"]),
        offset=tuple(affine["offset"]),
    )


def _module_info(message: Message) -> ModuleInfo:
    calls = tuple(
        CallInfo(tuple(call["shape"]), call["dtype"], call["reason"]) for call in message["calls"]
    )
    reason = calls[-1].reason if calls else _NEVER_RUNS
    return ModuleInfo(**message | {"calls": calls, "reason": reason})


def _raise_memory(message: str) -> NoReturn:
    raise OutOfDeviceMemoryError(message)


def _raise_seed(message: str) -> NoReturn:
    raise InvalidRequestError(message, field="model.random_seed")


def _raise_format(message: str) -> NoReturn:
    raise InvalidWeightsError(message, field="model.weights_sha256")


def _raise_mismatch(message: str) -> NoReturn:
    raise WeightsMismatchError(message, field="model.weights_sha256")


def _raise_network(message: str) -> NoReturn:
    raise NetworkError(message)


_ERRORS = {
    "network": _raise_network,
    "memory": _raise_memory,
    "seed": _raise_seed,
    "format": _raise_format,
    "mismatch": _raise_mismatch,
}


def _check(reply: Message) -> None:
    if "error" not in reply:
        return
    if reply["error"] in _ERRORS:
        _ERRORS[reply["error"]](reply["message"])
    raise RuntimeError(f"TensorFlow's process failed: {reply['message']}")
