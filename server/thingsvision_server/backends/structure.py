"""Finds the modules of a PyTorch network, their order, shapes and number of calls, by a dry run.

Two passes with different numbers of images tell which outputs have one row per image.
On the `meta` device a pass computes shapes only, so no weights need to be there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .base import ModuleInfo, Structure

_DRY_RUN_IMAGES = (2, 3)

_Shape = tuple[int, ...]
_Output = tuple[_Shape, torch.dtype] | str


def first_tensor(output: Any) -> Any:
    """Return the tensor that stands for a module's output: itself, or the first of a sequence."""
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output


def describe(network: nn.Module, input_shape: tuple[int, ...]) -> Structure:
    """Return the structure of a network for images of C x H x W; raise what its passes raise."""
    first, second = (_dry_run(network, (count, *input_shape)) for count in _DRY_RUN_IMAGES)
    names = {module: name for name, module in network.named_modules()}
    executed = [module for module in first if module in names]
    idle = [module for module in names if module not in first]
    return Structure(
        tuple(
            _module_info(names[module], module, first.get(module, []), second.get(module, []))
            for module in [*executed, *idle]
        ),
        sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()]),
    )


def _dry_run(network: nn.Module, input_shape: tuple[int, ...]) -> dict[nn.Module, list[_Output]]:
    """Return the outputs of every call, modules in the order in which they begin."""
    calls: dict[nn.Module, list[_Output]] = {}

    def begin(module: nn.Module, _inputs: Any) -> None:
        calls.setdefault(module, [])

    def end(module: nn.Module, _inputs: Any, output: Any) -> None:
        calls[module].append(_shape_of(output))

    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    handles = [m.register_forward_pre_hook(begin) for m in network.modules()]
    handles += [m.register_forward_hook(end) for m in network.modules()]
    try:
        with torch.inference_mode():
            network(torch.zeros(input_shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _shape_of(output: Any) -> _Output:
    tensor = first_tensor(output)
    if not isinstance(tensor, torch.Tensor):
        return f"its output is a {type(tensor).__name__}, not a tensor"
    return tuple(tensor.shape), tensor.dtype


def _module_info(
    name: str, module: nn.Module, first: list[_Output], second: list[_Output]
) -> ModuleInfo:
    shape, dtype, reason = _one_row_per_image(first, second)
    return ModuleInfo(
        name=name,
        type=type(module).__name__,
        attributes=" ".join(module.extra_repr().split()),
        depth=name.count(".") + 1 if name else 0,
        parent=name.rpartition(".")[0],
        parameter_count=sum(parameter.numel() for parameter in module.parameters()),
        output_shape=shape,
        output_dtype=dtype,
        call_count=len(first),
        reason=reason,
    )


def _one_row_per_image(first: list[_Output], second: list[_Output]) -> tuple[_Shape, str, str]:
    """Return shape per image, element type, and why the last call's output is no such thing."""
    if not first or not second:
        return (), "", "it does not run in a forward pass (its parent computes without calling it)"
    if len(first) != len(second):
        return (), "", "the number of its calls depends on the number of images"
    one, other = first[-1], second[-1]
    if isinstance(one, str) or isinstance(other, str):
        return (), "", str(one)
    (shape, dtype), (other_shape, _) = one, other
    dtype_name = str(dtype).removeprefix("torch.")
    if not dtype.is_floating_point:
        return shape[1:], dtype_name, f"its output is of type {dtype_name}, not floating point"
    if (shape[:1], other_shape[:1]) != ((2,), (3,)) or shape[1:] != other_shape[1:]:
        sentence = f"its output has no row per image: shape {list(shape)} for 2 images"
        return shape[1:], dtype_name, sentence
    return shape[1:], dtype_name, ""
