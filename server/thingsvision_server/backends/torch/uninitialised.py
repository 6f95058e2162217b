"""Builds networks whose weights come from a file: no initial value is drawn, nor copied over.

Memory without a value lies on PyTorch's `meta` device, and so does what would be drawn at random
and all that is computed from either. Other numbers are real, those that a network computes with.
So what a file leaves without a value can be told, and nothing is ever taken for a value.
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
"""Of PyTorch's own memory on a CPU: products of memory that lies otherwise may round otherwise."""


class ValueNeededError(RuntimeError):
    """A network can't be built without its initial values."""


class _Thread(threading.local):
    is_uninitialised = False


_thread = _Thread()


class _NoValues(TorchFunctionMode):
    """Gives memory and random numbers no value; this thread only."""

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
            if func.__name__.endswith("_"):  # in place, where there is nothing
                return drawn[0]
        return func(*args, **kwargs)


def _set(setter: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """Have memory that is no parameter get the value it is given; parameters get a file's."""
    given = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
    is_parameter = isinstance(tensor, nn.Parameter)
    if is_parameter or not tensor.is_meta or any(one.is_meta for one in given):
        return setter(tensor, *args, **kwargs)
    real = torch.empty_like(tensor, device="cpu")
    setter(real, *args, **kwargs)
    # Of a view this changes nothing: what it is a view of stays without a value.
    torch.utils.swap_tensors(tensor, real)  # type: ignore[no-untyped-call]
    return tensor


def _unset(drawn: list[torch.Tensor]) -> None:
    """Take the values from what is drawn in place; raise where others may share its memory."""
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
def uninitialised() -> Iterator[None]:
    """Have this thread's networks built without values, and take those that they load as theirs.

    Ask `missing_values` of the network afterwards. What a network does that needs a value raises.
    """
    _patch_load_state_dict()
    _thread.is_uninitialised = True
    try:
        with _NoValues():
            yield
    finally:
        _thread.is_uninitialised = False


def missing_values(network: nn.Module) -> list[str]:
    """Return where a network holds tensors without a value, as parameters or in any attribute."""
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
    """Have `load_state_dict` fill uninitialised networks: libraries call it by themselves.

    It stays as it was for all other threads.
    """
    own = nn.Module.load_state_dict

    def load_state_dict(
        self: nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        if not _thread.is_uninitialised:
            return own(self, state_dict, strict, assign)
        # Nothing is made here: what `_NoValues` would look at, call by call, only takes time.
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            wanted = self.state_dict()
            _refuse_shared(wanted)
            loaded = own(self, _adopt(state_dict, wanted), strict, assign=True)
            _refuse_other_layouts(self.state_dict(), wanted)
            return loaded

    nn.Module.load_state_dict = load_state_dict  # type: ignore[method-assign]


def _refuse_shared(wanted: Mapping[str, torch.Tensor]) -> None:
    """Raise where parameters share memory: each would get tensors of its own."""
    storages = {tensor.untyped_storage()._cdata for tensor in wanted.values()}  # noqa: SLF001
    if len(storages) < len(wanted):
        raise ValueNeededError("some of its parameters share memory")


def _adopt(state: Mapping[str, Any], wanted: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return a file's tensors as copying them into a network would leave them there."""
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
    """Return the tensor itself where it has memory of its own that lies as the copy's would."""
    place = tensor.data_ptr()
    is_whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    is_aligned = place % _ALIGNMENT_BYTES == 0
    lies_alike = _layout(tensor) == _layout(wanted)
    on_cpu = tensor.device.type == "cpu"
    if on_cpu and is_whole and lies_alike and is_aligned and place not in taken:
        taken.add(place)
        return tensor.detach()
    if on_cpu and lies_alike and tensor.is_contiguous():
        return copy_in_thread(tensor)
    return torch.empty_like(wanted, device="cpu").copy_(tensor.detach())


def _refuse_other_layouts(
    found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> None:
    """Raise where a network's own way of loading put in what copying would have converted."""
    for name, tensor in found.items():
        if name not in wanted or _layout(tensor) != _layout(wanted[name]):
            raise ValueNeededError(f"it converts {name} while it is loaded")


def _layout(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.layout
