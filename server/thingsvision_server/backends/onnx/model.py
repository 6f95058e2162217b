"""Runs ONNX models with onnxruntime.

To read an operator's output, it is declared an output of the graph. The graph is then pruned to
what the taps need, so that a pass stops after the last tap, and runs without graph optimisation:
operators are never fused, so that a tap's bits do not depend on which other taps were requested.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from ...host import quota_threads
from ..base import (
    DEFAULT_ONLY,
    BatchRun,
    NetworkError,
    OutOfDeviceMemoryError,
    Rows,
    describe_changed_shape,
    join,
)
from ..compute_options import DEFAULT, ComputeOptions
from ..device_faults import says_out_of_memory
from ..taps import Tap

_MAX_SESSIONS = 4

OnnxError = (
    failures.EPFail,
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.ModelLoadCanceled,
    failures.NotImplemented,
    failures.RuntimeException,
)
"""What onnxruntime raises if a graph can't be run, or does not accept an input."""

_PLACES_IN_CODE = re.compile(r"\S*/onnxruntime_src/\S+|^Exception during initialization:")

_CUDA = "CUDAExecutionProvider"
_CPU: tuple[str, Mapping[str, Any]] = ("CPUExecutionProvider", {})


class OnnxModel:
    """A model on one device, with a cached session for each of the last sets of taps."""

    is_concurrent = False
    is_foreign = True
    supported = untried = DEFAULT_ONLY
    weights_part = ""

    def __init__(self, model: Any, input_name: str, device: str) -> None:
        self._graph: Graph | None = Graph(model)
        self._input_name = input_name
        self._providers = providers(device)
        self.framework = framework_name(device, self._providers)
        self._sessions: OrderedDict[tuple[str, ...], Session] = OrderedDict()
        self.model_sha256 = weights_sha256(model)
        self.resident_bytes = self._graph.weight_bytes

    def run(
        self,
        inputs: Sequence[Any],
        taps: Sequence[Tap],
        _options: ComputeOptions = DEFAULT,
    ) -> BatchRun:
        """Return the activations of each tap, images x shape; the pass stops after the last tap."""
        started = time.monotonic()
        try:
            session = self._session(tuple(dict.fromkeys(tap.module for tap in taps)))
            batch = join([np.asarray(one, np.float32) for one in inputs])
            copied_at = time.monotonic()
            outputs = session.run({self._input_name: batch})
        except OnnxError as error:
            if says_out_of_memory(str(error)):
                raise OutOfDeviceMemoryError(str(error)) from error
            raise NetworkError(reason_of(error)) from error
        by_module = dict(zip((tap.module for tap in _unique(taps)), outputs, strict=True))
        rows = [_rows(tap, by_module[tap.module], len(batch)) for tap in taps]
        return BatchRun(rows, copied_at - started, time.monotonic() - copied_at)

    def _session(self, modules: tuple[str, ...]) -> Session:
        if self._graph is None:
            raise RuntimeError("the model was closed while in use")
        if modules not in self._sessions:
            self._sessions[modules] = self._graph.session(modules, self._providers)
        self._sessions.move_to_end(modules)
        while len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return self._sessions[modules]

    def close(self) -> None:
        """Free the memory of the sessions and the weights."""
        self._sessions.clear()
        self._graph = None


@dataclass(frozen=True)
class Session:
    """A session of onnxruntime, and the weights that it reads.

    onnxruntime reads them where they are, and does not keep their memory: without this reference a
    session that outlives its `Graph` would compute with whatever the memory holds by then.
    """

    _session: Any
    _weights: Mapping[str, Any]

    def run(self, inputs: Mapping[str, Any]) -> list[Any]:
        """Return the outputs; raise what onnxruntime raises."""
        outputs: list[Any] = self._session.run(None, inputs)
        return outputs


class Graph:
    """A model's operators and weights, from which pruned sessions are made."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._makers = {name: node for node in model.graph.node for name in node.output if name}
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        # One copy, shared by all sessions.
        self._values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(numpy_helper.to_array(tensor))
            for name, tensor in self._weights.items()
        }
        self.weight_bytes = sum(
            numpy_helper.to_array(tensor).nbytes for tensor in self._weights.values()
        )

    def session(self, modules: Iterable[str], run_on: Sequence[Any] = (_CPU,)) -> Session:
        """Return a session that computes the outputs of these modules; `` is the whole model."""
        names = [name or self._model.graph.output[0].name for name in modules]
        pruned, weights = self._prune(names)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        options.intra_op_num_threads = quota_threads()
        if tuple(run_on) == (_CPU,):
            for name in weights:
                options.add_initializer(name, self._values[name])
        session = onnxruntime.InferenceSession(
            pruned.SerializeToString(), options, providers=list(run_on)
        )
        return Session(session, self._values)

    def _prune(self, names: Sequence[str]) -> tuple[Any, list[str]]:
        """Return a model of the operators that these values need, and the names of its weights."""
        needed, reads, stack = set[int](), set[str](), list(names)
        while stack:
            name = stack.pop()
            if name in reads:
                continue
            reads.add(name)
            node = self._makers.get(name)
            if node is not None and id(node) not in needed:
                needed.add(id(node))
                stack += inputs_of(node)
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.node[:], model.graph.output[:], model.graph.initializer[:]
        model.graph.node.extend(one for one in self._model.graph.node if id(one) in needed)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        weights = [name for name in self._weights if name in reads]
        model.graph.initializer.extend(self._weights[name] for name in weights)
        return model, weights


def inputs_of(node: Any) -> list[str]:
    """Return the names of the values an operator reads, including in its nested graphs."""
    inner = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]
    deeper = [name for graph in inner for one in graph.node for name in inputs_of(one)]
    outputs = [one.name for graph in inner for one in graph.output]
    return [name for name in [*node.input, *deeper, *outputs] if name]


def providers(device: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the execution providers: the GPU if onnxruntime can use one here, else the CPU."""
    kind, _, index = device.partition(":")
    if kind != "cuda" or not _can_use_gpu(int(index or 0)):
        return [_CPU]
    return [(_CUDA, {"device_id": int(index or 0), "use_tf32": 0}), _CPU]


@cache
def _can_use_gpu(index: int) -> bool:
    """Try a session on the GPU: without its libraries, onnxruntime would silently use the CPU."""
    if _CUDA not in onnxruntime.get_available_providers():
        return False
    # The libraries that PyTorch brought; of another version of CUDA, they can't be loaded.
    onnxruntime.preload_dlls()
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    same = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "trial", [value], [same])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    wanted = [(_CUDA, {"device_id": index}), _CPU]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=wanted)
    return _CUDA in session.get_providers()


def framework_name(device: str, run_on: Sequence[Any]) -> str:
    """Return onnxruntime and its version, and whether it runs on the CPU in the place of a GPU."""
    name = f"onnxruntime {onnxruntime.__version__}"
    is_on_cpu_instead = device != "cpu" and list(run_on) == [_CPU]
    return f"{name} (on the CPU: onnxruntime can't use the GPU)" if is_on_cpu_instead else name


def weights_sha256(model: Any) -> str:
    """Return SHA-256 over name, type, shape and bytes of a model's weights, hex."""
    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda one: str(one.name)):
        values = numpy_helper.to_array(tensor)
        digest.update(f"{tensor.name} {values.dtype} {list(values.shape)}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def reason_of(error: Exception) -> str:
    """Return what a graph raised, without onnxruntime's paths and codes."""
    line = str(error).strip().partition("\n")[0].rpartition(" : ")[2]
    return _PLACES_IN_CODE.sub("", line).strip() or type(error).__name__


def _unique(taps: Sequence[Tap]) -> list[Tap]:
    return list({tap.module: tap for tap in taps}.values())


def _rows(tap: Tap, output: Any, image_count: int) -> Rows:
    expected = (image_count, *tap.call_shape)
    if output.shape != expected:
        raise NetworkError(describe_changed_shape(tap.name, output.shape, expected))
    parts = tap.reduce(output)
    rows = np.concatenate(parts, -1) if len(parts) > 1 else parts[0]
    return np.ascontiguousarray(rows, np.float32).reshape(image_count, *tap.output_shape)
