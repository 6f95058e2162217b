"""Answers the server's requests in TensorFlow's process: the service of this kind of child."""

from __future__ import annotations

import ctypes
import gc
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...children.blocks import KnownBlocks
from ...children.channel import Message, map_memory
from . import outline
from .compiled import CompiledProgram, disable_graph_optimisers
from .files import RefusedError
from .graph import FlatNetwork, flatten
from .network_spec import NetworkSpec, on_device

_MAX_PROGRAMS = 8
_CPU = "/CPU:0"


def preload() -> None:
    """Import TensorFlow, and Keras where it is."""
    import tensorflow as tf

    tf.constant  # noqa: B018 - the name is loaded when it is asked for
    with suppress(ImportError):
        import keras

        keras.layers  # noqa: B018


@dataclass
class ResidentNetwork:
    """A network with weights, and a cache of the programs used last."""

    flattened: FlatNetwork
    preprocess: Callable[[Any], Any]
    device: str
    programs: OrderedDict[tuple[int, ...], CompiledProgram] = field(default_factory=OrderedDict)

    def program(self, slots: tuple[int, ...]) -> CompiledProgram:
        """Return the program that computes these tensors, built once."""
        if slots not in self.programs:
            self.programs[slots] = CompiledProgram(self.flattened.program(slots))
        self.programs.move_to_end(slots)
        while len(self.programs) > _MAX_PROGRAMS:
            self.programs.popitem(last=False)
        return self.programs[slots]


class Service:
    """The methods that requests call, and the networks of this process."""

    def __init__(self) -> None:
        self._networks: dict[str, ResidentNetwork] = {}
        self._blocks = KnownBlocks()

    def prepare(self, settings: Message) -> None:
        """Set how this process computes, before it has computed anything."""
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(settings["cores"])
        # Exact float32, as in the PyTorch backend.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        disable_graph_optimisers()
        if "folder" in settings:
            tempfile.tempdir = settings["folder"]

    def describe_error(self, error: Exception) -> Message | None:
        """Return the reply for what a request raised; None if it is a bug."""
        import tensorflow as tf

        if isinstance(error, RefusedError):
            return {"error": error.kind, "message": str(error)}
        if isinstance(error, (tf.errors.ResourceExhaustedError, MemoryError)):
            return {"error": "memory", "message": str(error)}
        return None

    def describe(self, request: Message, _descriptors: list[int]) -> Message:
        """Return the architecture of a network, without its weights."""
        spec = NetworkSpec(**request["network"])
        network, file = spec.describe()
        flattened = _flatten(network)
        shapes = outline.measured_shapes(flattened, request["shape"])
        return {
            "input_shape": list(network.inputs[0].shape)[1:],
            "preprocessing": outline.affine(spec.preprocess) | {"family": spec.family_name},
            "file": file,
            "modules": outline.modules(flattened, shapes),
            "state_bytes": outline.state_bytes(network),
        }

    def preprocess(self, request: Message, descriptors: list[int]) -> Message:
        """Write the pixels of an image in shared memory, preprocessed for a network, there too."""
        memory = map_memory(descriptors[0])
        shape, count = request["shape"], int(np.prod(request["shape"]))
        pixels = np.frombuffer(memory, np.uint8, count).reshape(shape)
        values = np.frombuffer(memory, np.float32, count, request["offset"]).reshape(shape)
        spec = NetworkSpec(**request["network"])
        values[:] = spec.preprocess(pixels[None].astype(np.float32))[0]
        return {}

    def load(self, request: Message, _descriptors: list[int]) -> Message:
        """Build a network with weights and store it."""
        spec = NetworkSpec(**request["network"])
        device = _device(request["device"])
        network = spec.build(device, **request["weights"])
        resident = ResidentNetwork(_flatten(network), spec.preprocess, device)
        self._networks[request["model"]] = resident
        on_cpu_instead = device == _CPU and request["device"] != "cpu"
        return {
            "model_sha256": outline.state_sha256(network),
            "resident_bytes": outline.state_bytes(network),
            "framework": _framework(spec.package, on_cpu_instead=on_cpu_instead),
        }

    def run(self, request: Message, descriptors: list[int]) -> Message:
        """Run a batch from shared memory, and write the activations there."""
        started = time.monotonic()
        memory = self._blocks.open(request, descriptors)
        resident = self._networks[request["model"]]
        with on_device(resident.device):
            batch = _batch(request, memory, resident.preprocess)
            copied_at = time.monotonic()
            _run(request, memory, resident, batch)
        return {
            "copy_seconds": copied_at - started,
            "forward_seconds": time.monotonic() - copied_at,
        }

    def close(self, request: Message, _descriptors: list[int]) -> Message:
        """Free a network."""
        self._networks.pop(request["model"], None)
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        return {}


def _flatten(network: Any) -> FlatNetwork:
    try:
        return flatten(network)
    except ValueError as error:
        raise RefusedError("format", str(error)) from error


def _batch(request: Message, memory: Any, preprocess: Callable[[Any], Any]) -> Any:
    """Return the batch; the family's own preprocessing applies to pixels, not to floats."""
    import tensorflow as tf

    shape, dtype = request["shape"], np.dtype(request["dtype"])
    values = np.frombuffer(memory, dtype, int(np.prod(shape))).reshape(shape)
    batch = values.astype(np.float32)
    return tf.convert_to_tensor(preprocess(batch) if dtype == np.uint8 else batch)


def _run(request: Message, memory: Any, resident: ResidentNetwork, batch: Any) -> None:
    modules = {"/".join(path): module for path, module in resident.flattened.modules.items()}
    wanted = [
        modules[tap["module"]].calls[call].slot for tap in request["taps"] for call in tap["calls"]
    ]
    unique = tuple(dict.fromkeys(wanted))
    found = dict(zip(unique, resident.program(unique).run(batch), strict=True))
    tensors = iter(wanted)
    for tap in request["taps"]:
        shape = (len(batch), *tap["shape"])
        rows = np.frombuffer(memory, np.float32, int(np.prod(shape)), tap["offset"]).reshape(shape)
        for place in range(len(tap["calls"])):
            target = rows[:, place] if tap["stacked"] else rows
            _copy(found[next(tensors)], target, tap["module"])


def _copy(tensor: Any, target: Any, module: str) -> None:
    if tuple(tensor.shape) != target.shape:
        found, expected = list(tensor.shape), list(target.shape)
        raise RefusedError(
            "network",
            f"module {module!r} returned {found} instead of {expected}: the shape of its output "
            "depends on the values in the images, and rows of features must be equally long; "
            "request a module before it",
        )
    np.copyto(target, tensor.numpy(), casting="unsafe")


def _device(asked: str) -> str:
    """Return TensorFlow's name of a device; the CPU if TensorFlow can't use the GPU."""
    import tensorflow as tf

    kind, _, index = asked.partition(":")
    usable = kind == "cuda" and len(tf.config.list_physical_devices("GPU")) > int(index or 0)
    return f"/GPU:{index or 0}" if usable else _CPU


def _framework(package: str, *, on_cpu_instead: bool) -> str:
    import tensorflow as tf

    versions = f"tensorflow {tf.__version__} {package} {sys.modules[package].__version__}"
    return f"{versions} (on the CPU: TensorFlow sees no such GPU)" if on_cpu_instead else versions
