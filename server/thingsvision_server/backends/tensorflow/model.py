"""Runs Keras models in a child process that TensorFlow has for itself; knows no source.

TensorFlow can't share a process with PyTorch (the order of imports aborts it, their GPU builds
exclude each other), and gives GPU memory back only with the end of its process.
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
from ..base import BatchRun, OutOfDeviceMemoryError
from ..compute_options import DEFAULT, ComputeOptions, MemoryFormat, Precision
from ..modules import CallInfo, ModuleInfo, Structure
from ..taps import Tap
from .child.channel import Layout, Message, map_memory, open_memory
from .process import ChildProcess

_IDLE_SECONDS = 60.0
_NEVER_RUNS = "it takes no part in a forward pass"


@dataclass(frozen=True)
class KerasNetwork:
    """What to build: a class of a package's `applications`, or the file of a whole model.

    `published` where Keras' own weights belong in it: it builds some networks otherwise then.
    """

    package: str = "keras"
    name: str = ""
    published: bool = False
    archive: str = ""
    """A `.keras` file, instead of a class."""
    options: tuple[tuple[str, str | None], ...] = ()
    """Arguments for the class."""


@dataclass(frozen=True)
class KerasFile:
    """A file that Keras publishes: its name in Keras' cache, and where it comes from."""

    name: str
    url: str
    hash: str


@dataclass(frozen=True)
class KerasArchitecture:
    """What there is to know of a network without its weights.

    Each channel of the family's own preprocessing is `scale` times the channel `source` of a
    pixel of 0 to 255, plus `offset`.
    """

    structure: Structure
    input_shape: tuple[int, ...]
    file: KerasFile | None
    family: str
    """The module whose `preprocess_input` it is; empty where pixels are taken as they are."""
    source: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]


@dataclass(frozen=True)
class KerasWeights:
    """The weights to build a network with: a file, or where there is none, a seed."""

    seed: int = 0
    file: str = ""


class TensorFlowRuntime:
    """The child process: started when a model needs it, ended with its last model.

    One that only told about networks ends after a minute without requests. `python` is the
    interpreter of an environment that has TensorFlow. Threads may share it.
    """

    def __init__(self, python: str, *, keep_freed_memory: bool = True) -> None:
        self.python = python
        self._keep_freed_memory = keep_freed_memory
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._timer: threading.Timer | None = None

    @property
    def pid(self) -> int | None:
        """The child's process number; None where there is no child."""
        child = self._child
        return child.pid if child and not child.is_gone else None

    def describe(self, network: KerasNetwork) -> KerasArchitecture:
        """Return what there is to know of a network without its weights."""
        with self._use_child() as child:
            reply = child.build("describe", network=vars(network))
        _check(reply)
        return _architecture(reply)

    def load(self, network: KerasNetwork, weights: KerasWeights, device: str) -> TensorFlowModel:
        """Build a network with weights on a device.

        Raises WeightsMismatchError and InvalidWeightsError; their sentences don't name the file.
        """
        request = {"network": vars(network), "weights": vars(weights), "device": device}
        return TensorFlowModel(self, request)

    def acquire(self, model: str, request: Message) -> tuple[ChildProcess, Message]:
        """Load a model into the child, which lives on until it is let go; for TensorFlowModel."""
        with self._use_child() as child:
            reply = child.build("load", model=model, **request)
            _check(reply)
            with self._lock:
                child.user_count += 1
        return child, reply

    def release(self, child: ChildProcess) -> None:
        """Give up a model's hold; the last one ends the process."""
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
        """End a child that holds no model; one that does ends with its last model."""
        if self._timer:
            self._timer.cancel()
        self._end_if_idle()


class TensorFlowModel:
    """A Keras network with weights in the child process.

    Inputs are images of height x width x 3: pixels (uint8), which get the family's own
    preprocessing, or float32 values that are ready. After a crash of the child, the next run
    loads the model into a new one.
    """

    is_concurrent = False
    precisions: Sequence[Precision] = (Precision.FLOAT32,)
    memory_formats: Sequence[MemoryFormat] = (MemoryFormat.CONTIGUOUS,)
    can_compile = False

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
        """Return the activations of each tap, images x shape; the pass ends after the last one."""
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
                taps=list(map(_tap_message, taps, layout.places[1:])),
            )
        finally:
            os.close(descriptor)
        _check(reply)
        rows = [
            _array_in(memory, (count, *tap.output_shape), np.float32, place)
            for tap, place in zip(taps, layout.places[1:], strict=True)
        ]
        return BatchRun(rows, reply["copy_seconds"], reply["forward_seconds"])

    def close(self) -> None:
        """Give the memory back; the child ends with its last model."""
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
    return KerasArchitecture(
        Structure(tuple(map(_module_info, reply["modules"])), reply["state_bytes"]),
        tuple(reply["input_shape"]),
        KerasFile(**file) if file else None,
        affine["family"],
        tuple(affine["source"]),
        tuple(affine["scale"]),
        tuple(affine["offset"]),
    )


def _module_info(message: Message) -> ModuleInfo:
    calls = tuple(
        CallInfo(tuple(call["shape"]), call["dtype"], call["reason"]) for call in message["calls"]
    )
    reason = calls[-1].reason if calls else _NEVER_RUNS
    return ModuleInfo(**message | {"calls": calls, "reason": reason})


def _memory(message: str) -> NoReturn:
    raise OutOfDeviceMemoryError(message)


def _seed(message: str) -> NoReturn:
    raise InvalidRequestError(message, field="model.random_seed")


def _format(message: str) -> NoReturn:
    raise InvalidWeightsError(message, field="model.weights_sha256")


def _mismatch(message: str) -> NoReturn:
    raise WeightsMismatchError(message, field="model.weights_sha256")


_ERRORS = {"memory": _memory, "seed": _seed, "format": _format, "mismatch": _mismatch}


def _check(reply: Message) -> None:
    if "error" not in reply:
        return
    if reply["error"] in _ERRORS:
        _ERRORS[reply["error"]](reply["message"])
    raise RuntimeError(f"TensorFlow's process failed: {reply['message']}")
