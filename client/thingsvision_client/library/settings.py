"""The settings of a module, read from the text in which the network prints them."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from ..values.records import ModuleInfo

_UNNAMED: Mapping[str, Sequence[str]] = {
    "Conv": ("in_channels", "out_channels"),
    "BatchNorm": ("num_features",),
    "InstanceNorm": ("num_features",),
    "SyncBatchNorm": ("num_features",),
    "LayerNorm": ("normalized_shape",),
    "RMSNorm": ("normalized_shape",),
    "GroupNorm": ("num_groups", "num_channels"),
    "Embedding": ("num_embeddings", "embedding_dim"),
}
"""Names of the settings that PyTorch prints without them, by the beginning of a class's name."""

_TENSORS = ("weight", "bias")
"""Settings that say whether a module has a tensor of that name."""


@cache
def settings_of(module: ModuleInfo) -> Mapping[str, Any]:
    """Return the settings by name, as Python values; those that are not literals are left out."""
    try:
        call = ast.parse(f"settings({module.attributes})", mode="eval").body
    except SyntaxError:
        return MappingProxyType({})
    if not isinstance(call, ast.Call):
        return MappingProxyType({})
    kinds = kinds_of(module)
    named: dict[str, ast.expr] = dict(zip(_names(kinds), call.args, strict=False))
    named |= {word.arg: word.value for word in call.keywords if word.arg is not None}
    found = _add_defaults(kinds, named)
    for name, node in named.items():
        try:
            found[name] = ast.literal_eval(node)
        except ValueError:  # a string of Keras, which is printed without quotes
            found[name] = ast.unparse(node)
    return MappingProxyType({name: value for name, value in found.items() if name not in _TENSORS})


def kinds_of(module: ModuleInfo) -> tuple[str, ...]:
    """Return the names of a module's class and of PyTorch's above, without Python modules."""
    above = (kind.rpartition(".")[2] for kind in module.classes[1:])
    return (module.type, *(kind for kind in above if not kind.startswith("_")))


def has_no(module: ModuleInfo, tensor: str) -> bool:
    """Whether a module's settings say that it lacks a tensor, such as `bias`."""
    return f"{tensor}=False" in module.attributes.split(", ")


def _names(kinds: Sequence[str]) -> Sequence[str]:
    for kind in kinds:
        for beginning, names in _UNNAMED.items():
            if kind.startswith(beginning):
                return names
    return ()


def _add_defaults(kinds: Sequence[str], printed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of a convolution, which PyTorch does not print."""
    sizes = printed.get("kernel_size")
    if not any(kind.startswith("Conv") for kind in kinds) or not isinstance(sizes, ast.Tuple):
        return {}
    dims = len(sizes.elts)
    return {"padding": (0,) * dims, "dilation": (1,) * dims, "groups": 1, "padding_mode": "zeros"}
