"""Builds networks whose weights come from a file, without drawing initial values or copying.

Uninitialised memory is on PyTorch's `meta` device, and so are tensors that would be drawn at random
and everything computed from either. Other numbers, which a network computes with, are real. So
`missing_values` finds every tensor that the file did not fill, and no garbage is taken for a value.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .copying import copy_in_thread
from .seeding import draws

_RANDOM_TENSORS = frozenset({torch.rand, torch.randint, torch.randn, torch.randperm})

_SETTERS = frozenset({torch.Tensor.copy_, torch.Tensor.fill_, torch.Tensor.zero_})

_ALIGNMENT_BYTES = 64
"""PyTorch's own alignment on a CPU: products of memory aligned otherwise may round differently."""


class ValueNeededError(RuntimeError):
    """A network can't be built without its initial values."""


class _Thread(threading.local):
    is_uninitialised = False


_thread = _Thread()


class _NoValues(TorchFunctionMode):
    """Makes new memory and random numbers `meta` tensors, in this thread only."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _RANDOM_TENSORS or (func is torch.empty and kwargs.get("device") is None):
            kwargs["device"] = "meta"
        elif func in _SETTERS:
            return _set(func, *args, **kwargs)
        elif draws(func):
            drawn = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
            _unset(drawn)
            if func.__name__.endswith("_"):  # in place: there is nothing to draw into
                return drawn[0]
        return func(*args, **kwargs)


def _set(setter: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """Set the value of memory that is not a parameter; parameters get theirs from the file."""
    given = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
    is_parameter = isinstance(tensor, nn.Parameter)
    if is_parameter or not tensor.is_meta or any(one.is_meta for one in given):
        return setter(tensor, *args, **kwargs)
    real = torch.empty_like(tensor, device="cpu")
    setter(real, *args, **kwargs)
    # For a view this has no effect: the tensor it is a view of stays without a value.
    torch.utils.swap_tensors(tensor, real)  # type: ignore[no-untyped-call]
    return tensor


def _unset(drawn: list[torch.Tensor]) -> None:
    """Make parameters drawn in place uninitialised; raise if other memory is drawn into."""
    for tensor in drawn:
        if tensor.is_meta:
            continue
        if not isinstance(tensor, nn.Parameter):
            raise ValueNeededError("it draws random numbers into memory that has values")
        empty = nn.Parameter(torch.empty_like(tensor, device="meta"), tensor.requires_grad)
        torch.utils.swap_tensors(tensor, empty)  # type: ignore[no-untyped-call]
    if not drawn:
        raise ValueNeededError("it draws random numbers")


@contextmanager
def skip_initial_values() -> Iterator[None]:
    """Build this thread's networks without values; `load_state_dict` then adopts a file's tensors.

    Call `missing_values` on the network afterwards. Whatever needs a value meanwhile raises.
    """
    _patch_load_state_dict()
    _thread.is_uninitialised = True
    try:
        with _NoValues():
            yield
    finally:
        _thread.is_uninitialised = False


def missing_values(network: nn.Module) -> list[str]:
    """Return the names of a network's parameters and attributes whose tensors have no value."""
    return [
        f"{name}.{place}" if name else place
        for name, module in network.named_modules()
        for place, value in _places(module)
        if any(tensor.is_meta for tensor in _tensors(value))
    ]


def _places(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        own = name in ("_parameters", "_buffers")
        yield from value.items() if own else [(name, value)]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple | set):
        for one in value:
            yield from _tensors(one)


@cache
def _patch_load_state_dict() -> None:
    """Replace `load_state_dict` by one that fills uninitialised networks, for the whole process.

    It has to be PyTorch's own method, because libraries call it themselves. Threads outside
    `uninitialised` get the original behaviour.
    """
    original = nn.Module.load_state_dict

    def load_state_dict(
        self: nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        if not _thread.is_uninitialised:
            return original(self, state_dict, strict, assign)
        # No tensor is created here: `_NoValues` would only slow down each call.
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            wanted = self.state_dict()
            _refuse_shared(wanted)
            loaded = original(self, _adopt(state_dict, wanted), strict, assign=True)
            _refuse_other_layouts(self.state_dict(), wanted)
            return loaded

    nn.Module.load_state_dict = load_state_dict  # type: ignore[method-assign]


def _refuse_shared(wanted: Mapping[str, torch.Tensor]) -> None:
    """Raise if parameters share memory: each would get a tensor of its own."""
    storages = {tensor.untyped_storage()._cdata for tensor in wanted.values()}  # noqa: SLF001
    if len(storages) < len(wanted):
        raise ValueNeededError("some of its parameters share memory")


def _adopt(state: Mapping[str, Any], wanted: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return a file's tensors in the layout that copying them into the network would give."""
    taken: set[int] = set()
    return {
        name: _own_memory(tensor, wanted[name], taken)
        if _fits(tensor, wanted.get(name))
        else tensor
        for name, tensor in state.items()
    }


def _fits(tensor: Any, wanted: torch.Tensor | None) -> bool:
    is_tensor = isinstance(tensor, torch.Tensor)
    return is_tensor and wanted is not None and tensor.shape == wanted.shape


def _own_memory(tensor: torch.Tensor, wanted: torch.Tensor, taken: set[int]) -> torch.Tensor:
    """Return the tensor itself if its memory is its own and laid out as a copy's would be."""
    place = tensor.data_ptr()
    is_whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    is_aligned = place % _ALIGNMENT_BYTES == 0
    same_layout = _layout(tensor) == _layout(wanted)
    on_cpu = tensor.device.type == "cpu"
    if on_cpu and is_whole and same_layout and is_aligned and place not in taken:
        taken.add(place)
        return tensor.detach()
    if on_cpu and same_layout and tensor.is_contiguous():
        return copy_in_thread(tensor)
    return torch.empty_like(wanted, device="cpu").copy_(tensor.detach())


def _refuse_other_layouts(
    found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> None:
    """Raise if a network's own loading code kept a tensor that copying would have converted."""
    for name, tensor in found.items():
        if name not in wanted or _layout(tensor) != _layout(wanted[name]):
            raise ValueNeededError(f"it converts {name} while it is loaded")


def _layout(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.layout
