"""Finds the modules of a PyTorch network, their order, shapes and number of calls, by a dry run.

Two passes with different batch sizes show which outputs have one row per image. On the `meta`
device a pass computes shapes only, so no weights are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import nn

from ...inputs import IMAGE, InputSpec
from ..axes import with_axes
from ..modules import CallInfo, ModuleInfo, Structure
from .faults import call_network
from .tokens import TokenLayout, token_layouts

_DRY_RUN_IMAGES = (2, 3)

_Shape = tuple[int, ...]
_Output = tuple[_Shape, torch.dtype] | str
_Calls = dict[nn.Module, list[_Output]]


@dataclass(frozen=True)
class Tower:
    """The part of a network that takes one kind of input, and the spec of that input."""

    network: nn.Module
    spec: InputSpec


def first_tensor(output: Any) -> Any:
    """Return the tensor of a module's output: the output itself, or the first of a sequence."""
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output


def describe(
    network: nn.Module,
    towers: Mapping[str, Tower],
    image_counts: tuple[int, int] = _DRY_RUN_IMAGES,
) -> Structure:
    """Return the structure of a network with its towers by modality.

    Raises NetworkError for what its passes raise.

    For a network that takes one image at a time, pass `image_counts=(1, 1)`: each output with a
    leading 1 then counts as a row per image.
    """
    names = {module: name for name, module in network.named_modules()}
    layouts = token_layouts(network, towers[IMAGE].spec.shape if IMAGE in towers else ())
    modules: dict[nn.Module, ModuleInfo] = {}
    for modality, tower in towers.items():
        first, second = (_dry_run(network, tower, count) for count in image_counts)
        for module in first:
            if module in names and module not in modules:
                calls = _calls(first[module], second.get(module, []), image_counts)
                layout = _layout_of(names[module], layouts)
                modules[module] = _module_info(
                    module, name=names[module], modality=modality, calls=calls, layout=layout
                )
    seen = {info.name: info.modality for info in modules.values()}
    for module, name in names.items():
        if module not in modules:
            modality = _modality_around(name, seen) or next(iter(towers))
            modules[module] = _module_info(module, name=name, modality=modality)
    places = {module: place for place, module in enumerate(names)}
    listed = [replace(info, position=places[module]) for module, info in modules.items()]
    state_bytes = sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()])
    specs = {modality: tower.spec for modality, tower in towers.items()}
    return Structure(tuple(with_axes(listed, specs)), state_bytes)


def _modality_around(name: str, seen: Mapping[str, str]) -> str:
    """Return the modality of the innermost running parent of a module; empty if none runs."""
    while name and name not in seen:
        name = name.rpartition(".")[0]
    return seen.get(name, "")


def _dry_run(network: nn.Module, tower: Tower, count: int) -> _Calls:
    """Return the outputs of every call, modules in the order in which they start."""
    calls: _Calls = {}

    def begin(module: nn.Module, _inputs: Any) -> None:
        calls.setdefault(module, [])

    def end(module: nn.Module, _inputs: Any, output: Any) -> None:
        calls[module].append(_shape_of(output))

    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    dtype = getattr(torch, tower.spec.dtype)
    handles = [m.register_forward_pre_hook(begin) for m in network.modules()]
    handles += [m.register_forward_hook(end) for m in network.modules()]
    try:
        with torch.inference_mode():
            images = torch.zeros((count, *tower.spec.shape), device=device, dtype=dtype)
            call_network(tower.network, images)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _shape_of(output: Any) -> _Output:
    tensor = first_tensor(output)
    if isinstance(tensor, torch.Tensor):
        return tuple(tensor.shape), tensor.dtype
    kind, names = type(tensor).__name__, ", ".join(_names_in(tensor))
    if names:
        advice = "request a module inside it that outputs one of them"
        return f"its output is a {kind} of {names}; {advice}"
    return f"its output is a {kind}, not a tensor"


def _names_in(output: Any) -> list[str]:
    """Return the names of an output's values: the keys of a dict or the fields of a dataclass."""
    if isinstance(output, Mapping):
        return list(map(str, output))
    return [field.name for field in fields(output)] if is_dataclass(output) else []


def _layout_of(name: str, layouts: Mapping[str, TokenLayout]) -> TokenLayout | None:
    """Return the layout of the innermost part with a layout that contains a module."""
    inside = [part for part in layouts if not part or f"{name}.".startswith(f"{part}.")]
    return layouts[max(inside, key=len)] if inside else None


def _module_info(
    module: nn.Module,
    *,
    name: str,
    modality: str,
    calls: tuple[CallInfo, ...] = (),
    layout: TokenLayout | None = None,
) -> ModuleInfo:
    prefix_tokens = layout.prefix_of(calls[-1].shape) if layout and calls else None
    idle = "it does not run in a forward pass (its parent computes without calling it)"
    return ModuleInfo(
        name=name,
        type=type(module).__name__,
        attributes=" ".join(module.extra_repr().split()),
        depth=name.count(".") + 1 if name else 0,
        parent=name.rpartition(".")[0],
        parameter_count=sum(parameter.numel() for parameter in module.parameters()),
        calls=calls,
        reason=calls[-1].reason if calls else idle,
        modality=modality,
        prefix_tokens=prefix_tokens,
        has_class_token=bool(prefix_tokens and layout and layout.has_class_token),
        classes=_classes(type(module)),
    )


def _classes(kind: type) -> tuple[str, ...]:
    """Return the names of a module's class and of PyTorch's own classes above, without `Module`."""
    above = [base for base in kind.__mro__[1:] if base.__module__.startswith("torch.nn.modules.")]
    named = [kind, *(base for base in above if base is not nn.Module)]
    return tuple(f"{base.__module__}.{base.__qualname__}" for base in named)


def _calls(
    first: list[_Output], second: list[_Output], image_counts: tuple[int, int]
) -> tuple[CallInfo, ...]:
    """Return the calls of a pass, with shapes per image; `second` ran with another batch size."""
    if len(first) != len(second):
        reason = "the number of its calls depends on the number of images"
        return tuple(CallInfo(reason=reason) for _ in first)
    pairs = zip(first, second, strict=True)
    return tuple(_one_row_per_image(one, other, image_counts) for one, other in pairs)


def _one_row_per_image(one: _Output, other: _Output, image_counts: tuple[int, int]) -> CallInfo:
    """Return a call's shape per image and element type, or why its output can't be extracted."""
    if isinstance(one, str) or isinstance(other, str):
        return CallInfo(reason=str(one))
    (shape, dtype), (other_shape, _) = one, other
    dtype_name = str(dtype).removeprefix("torch.")
    reason = ""
    if not dtype.is_floating_point:
        reason = f"its output is of type {dtype_name}, not floating point"
    elif shape[:1] + other_shape[:1] != image_counts or shape[1:] != other_shape[1:]:
        reason = (
            f"its output has no row per image: shape {list(shape)} for {image_counts[0]} images"
        )
    return CallInfo(shape[1:], dtype_name, reason)
