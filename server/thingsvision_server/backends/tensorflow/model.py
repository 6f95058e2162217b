"""Runs Keras models in a child process used by TensorFlow alone.

TensorFlow can't share a process with PyTorch (one order of imports aborts the process, and their
GPU builds exclude each other), and frees GPU memory only when its process ends.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ...allocator import KEEP_FREED_MEMORY
from ...errors import (
    BackendCrashedError,
    DeviceMemoryError,
    InvalidRequestError,
    InvalidWeightsError,
    WeightsMismatchError,
)
from ...host import core_count
from ..axes import with_axes
from ..base import DEFAULT_ONLY, BatchRun, NetworkError, OutOfDeviceMemoryError
from ..children.channel import Layout, Message, map_memory, open_memory
from ..children.guests import Guest
from ..children.keeper import ChildKeeper
from ..children.kinds import ChildKind
from ..children.pass_memory import array_in
from ..children.process import ChildPlan, ChildProcess
from ..children.template_process import Template, template_of
from ..children.watch import Limits
from ..compute_options import DEFAULT, ComputeOptions
from ..device_faults import first_line
from ..modules import CallInfo, ModuleInfo, Structure
from ..taps import Tap

_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
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

    def __init__(
        self, python: str, *, keep_freed_memory: bool = True, guest: Guest | None = None
    ) -> None:
        self.python = python
        self.guest = guest
        """The program of a user that it runs alone; None: networks of Keras."""
        self._keep_freed_memory = keep_freed_memory
        self._is_used = False
        self._keeper = guest.keeper if guest else ChildKeeper(self.template, self._plan())

    def confine(self, guest: Guest) -> TensorFlowRuntime:
        """Return the runtime of a user's program, in a process of its own."""
        return TensorFlowRuntime(
            self.python, keep_freed_memory=self._keep_freed_memory, guest=guest
        )

    @staticmethod
    def _plan() -> ChildPlan:
        return ChildPlan("TensorFlow's process", {"cores": core_count()})

    def template(self) -> Template:
        """Return the process that its child is forked from."""
        self._is_used = True
        allocator = KEEP_FREED_MEMORY if self._keep_freed_memory else {}
        kind = ChildKind(
            "TensorFlow",
            self.python,
            "thingsvision_server.backends.tensorflow.child.serve",
            tuple({**_ENVIRONMENT, **allocator}.items()),
            advice="Install tensorflow there, or start the server with --tensorflow-python set to "
            "the interpreter of an environment that has it",
        )
        return template_of(kind)

    @property
    def used_template(self) -> Template | None:
        """The process that its children are forked from; None if no child was needed yet."""
        return self.template() if self._is_used else None

    @property
    def pid(self) -> int | None:
        """The process id of the child; None if no child is running."""
        return self._keeper.pid

    def describe(
        self, network: KerasNetwork, shape: tuple[int, ...] | None = None
    ) -> KerasArchitecture:
        """Return the architecture of a network, without loading its weights.

        `shape` is the input shape of a network that takes several: a pass over zeros shows the
        shapes of its outputs. Raises DeviceMemoryError if that needs more memory than there is.
        """
        try:
            reply = self._build("describe", network=vars(network), shape=shape)
        except OutOfDeviceMemoryError as error:
            line = first_line(error)
            raise DeviceMemoryError(
                f"the network needs more memory than it may take: {line}", field="model.name"
            ) from error
        return _architecture(reply)

    def preprocess(self, network: KerasNetwork, pixels: Any) -> Any:
        """Return pixels, height x width x 3 of uint8, as a network's family preprocesses them."""
        layout = Layout()
        layout.add(pixels.nbytes)
        layout.add(4 * pixels.size)
        descriptor = open_memory(layout.size_bytes)
        try:
            memory = map_memory(descriptor)
            np.copyto(array_in(memory, pixels.shape, np.uint8, 0), pixels)
            with self._keeper.use() as child:
                reply = child.run(
                    "preprocess",
                    descriptors=(descriptor,),
                    network=vars(network),
                    shape=list(pixels.shape),
                    offset=layout.offsets[1],
                )
        finally:
            os.close(descriptor)
        _check(reply)
        return array_in(memory, pixels.shape, np.float32, layout.offsets[1])

    def load(self, network: KerasNetwork, weights: KerasWeights, device: str) -> TensorFlowModel:
        """Build a network with weights on a device.

        Raises WeightsMismatchError and InvalidWeightsError; their messages don't name the file.
        """
        request = {"network": vars(network), "weights": vars(weights), "device": device}
        return TensorFlowModel(self, request)

    def acquire(self, model: str, request: Message) -> tuple[ChildProcess, Message]:
        """Load a model into the child, which then runs until `release`; for TensorFlowModel."""
        with self._keeper.use():
            reply = self._build("load", model=model, **request)
            with self._keeper.use() as child:
                self._keeper.hold(child)
        return child, reply

    def _build(self, call: str, **request: Any) -> Message:
        """Return the reply to a request to describe or load a network; raise what it raised."""
        if self.guest is None:
            with self._keeper.use() as child:
                reply = child.build(call, **request)
        else:
            reply = self.guest.send(call, self.guest.build_limits, request)
        _check(reply)
        return reply

    def release(self, child: ChildProcess) -> None:
        """Release a model's hold on the child; releasing the last hold ends the process."""
        self._keeper.release(child)

    def close(self) -> None:
        """End the child if it holds no model; otherwise it ends when its last model is closed."""
        self._keeper.close()


class TensorFlowModel:
    """A Keras network with weights in the child process.

    Inputs are images of height x width x 3: pixels (uint8), which get the family's own
    preprocessing, or float32 values that are already preprocessed. After a crash of the child, the
    next run reloads the model into a new child.
    """

    is_concurrent = False
    is_foreign = True
    supported = untried = DEFAULT_ONLY
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
        guest = self._runtime.guest
        guarded = guest.guard(inputs) if guest else nullcontext(Limits())
        with guarded as limits:
            reply, memory = self._child.run_pass(inputs, taps, limits, model=self._name)
        _check(reply)
        return BatchRun(memory.rows, reply["copy_seconds"], reply["forward_seconds"])

    def interrupt(self) -> None:
        """End all passes of a user's program that run now, with its guest."""
        if self._runtime.guest is not None:
            self._runtime.guest.interrupt()

    def close(self) -> None:
        """Free the memory; the child ends when its last model is closed."""
        if not self._child.is_gone:
            with suppress(BackendCrashedError):
                self._child.run("close", model=self._name)
            self._runtime.release(self._child)


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
