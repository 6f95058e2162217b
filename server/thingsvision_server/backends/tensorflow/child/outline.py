"""Describes a network's modules, sizes and weights as plain data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np

from .files import RefusedError
from .graph import FlatNetwork, Module, Output, Slot

_LEFT_OUT = ("name", "trainable", "dtype", "batch_shape", "batch_input_shape", "seed", "layers")
"""Entries of a layer's config that don't affect its output, or are long."""


Shapes = Mapping[Slot, tuple[int, ...]]
"""The shapes of one image's outputs that a pass showed."""


def measured_shapes(flattened: FlatNetwork, shape: list[int] | None) -> Shapes:
    """Return the shape of every output for an input shape; raise RefusedError if it can't run.

    Without an input shape, return none: the network's own outline has them.
    """
    import tensorflow as tf

    if shape is None:
        return {}
    slots = sorted({call.slot for module in flattened.modules.values() for call in module.calls})
    counts = (2, 3)
    try:
        passes = [
            flattened.program(slots).run(tf.zeros((count, *shape), tf.float32)) for count in counts
        ]
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        reason = str(error).partition("\n")[0]
        raise RefusedError("format", f"it can't take inputs of {shape}: {reason}") from error
    return {
        slot: tuple(first.shape[1:])
        for slot, first, second in zip(slots, *passes, strict=True)
        if (first.shape[:1], second.shape[:1]) == ((2,), (3,))
    }


def modules(flattened: FlatNetwork, shapes: Shapes) -> list[dict[str, Any]]:
    """Return the modules in order of execution, starting with the whole network."""
    return [_module(module, shapes) for module in flattened.modules.values()]


def _module(module: Module, shapes: Shapes) -> dict[str, Any]:
    return {
        "name": "/".join(module.path),
        "type": type(module.layer).__name__,
        "attributes": _attributes(module.layer) if module.path else "",
        "depth": len(module.path),
        "parent": "/".join(module.path[:-1]),
        "parameter_count": sum(prod(w.shape) for w in weights_of(module.layer)),
        "calls": [_call(call, shapes) for call in module.calls],
    }


def _attributes(layer: Any) -> str:
    """Return the numbers and strings of a layer's config."""
    try:
        config = layer.get_config()
    except NotImplementedError:
        return ""
    shown = {name: _plain(value) for name, value in config.items() if name not in _LEFT_OUT}
    return ", ".join(f"{name}={value}" for name, value in shown.items() if value is not None)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and all(isinstance(part, (int, float)) for part in value):
        return f"({', '.join(map(str, value))})"
    return value if isinstance(value, (bool, int, float, str)) else None


def _call(call: Output, shapes: Shapes) -> dict[str, Any]:
    symbol = call.symbols[0]
    shape, dtype = list(symbol.shape), dtype_name(symbol.dtype)
    if call.slot in shapes:
        shape = [None, *shapes[call.slot]]
    reason = ""
    if call.names:
        names = ", ".join(call.names)
        reason = (
            f"its output is a dict of {names}; request a module inside it that outputs one of them"
        )
    elif not dtype.startswith(("float", "bfloat")):
        reason = f"its output is of type {dtype}, not floating point"
    elif not shape or shape[0] is not None:
        reason = f"its output has no row per image: shape {shape}"
    elif None in shape[1:]:
        reason = f"the shape {shape} of its output is not known before the network runs"
    plain = [] if reason else shape[1:]
    return {"shape": plain, "dtype": dtype, "reason": reason}


def dtype_name(dtype: Any) -> str:
    """Return the name of an element type of Keras 3 (a string) or tf_keras."""
    return str(getattr(dtype, "name", dtype))


def weights_of(layer: Any) -> list[Any]:
    """Return the variables of a layer, each once; an operation of Keras has none."""
    return list({id(weight): weight for weight in getattr(layer, "weights", ())}.values())


def state_bytes(network: Any) -> int:
    """Return the memory of all variables, bytes."""
    return sum(prod(w.shape) * _itemsize(dtype_name(w.dtype)) for w in weights_of(network))


def _itemsize(dtype: str) -> int:
    import tensorflow as tf

    return int(tf.as_dtype(dtype).size)


def state_sha256(network: Any) -> str:
    """Return SHA-256 over name, type, shape and bytes of all variables, hex."""
    digest = hashlib.sha256()
    for name, weight in sorted(_with_names(weights_of(network)), key=lambda pair: pair[0]):
        value = np.ascontiguousarray(weight.numpy())
        digest.update(f"{name} {dtype_name(weight.dtype)} {list(value.shape)}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _with_names(weights: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    return ((getattr(weight, "path", weight.name), weight) for weight in weights)


def affine(preprocess: Any) -> dict[str, Any]:
    """Return what a family's `preprocess_input` does to pixels of 0 to 255, by probing it.

    Each channel of its output is `scale` times the input's channel `source`, plus `offset`.
    """
    black = _probe(preprocess, (0, 0, 0))
    lit = [_probe(preprocess, tuple(np.eye(3)[channel] * 255)) - black for channel in range(3)]
    source = [int(np.argmax([abs(change[out]) for change in lit])) for out in range(3)]
    scale = [float(lit[source[out]][out]) / 255 for out in range(3)]
    return {"source": source, "scale": scale, "offset": black.tolist()}


def _probe(preprocess: Any, pixel: tuple[float, ...]) -> Any:
    return np.array(preprocess(np.array(pixel, np.float32).reshape(1, 1, 1, 3))).reshape(3)
