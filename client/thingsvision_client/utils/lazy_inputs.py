"""Inputs of a model that a server makes of images, only when their values are asked for.

Scripts take the items of a dataset, and the batches of a loader, for tensors; extractors send the
images themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

_OPERATORS = (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "mod"),
    *("pow", "rpow", "matmul", "rmatmul", "neg", "pos", "abs", "invert"),
    *("lt", "le", "gt", "ge", "eq", "ne", "bool", "float", "int", "contains"),
)


class LazyInputs:
    """What behaves like an array, or a tensor if PyTorch is installed; `_make` returns it once.

    isinstance() doesn't take it for a tensor: PyTorch's C++ would read memory that is not there.
    """

    _backend: str
    _made: Any = None

    def _make(self) -> Any:
        """Return the array or tensor."""
        raise NotImplementedError

    @property
    def values(self) -> Any:
        """The array or tensor, which a server has made."""
        if self._made is None:
            self._made = self._make()
        return self._made

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function of PyTorch with the tensors that stand behind lazy inputs."""
        return function(*_plain(args), **_plain(kwargs or {}))

    def __array__(self, *args: Any, **options: Any) -> Any:
        return self.values.__array__(*args, **options)

    def __dlpack__(self, *args: Any, **options: Any) -> Any:
        return self.values.__dlpack__(*args, **options)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.values, name)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __getitem__(self, place: Any) -> Any:
        return self.values[place]

    def pin_memory(self, *_: Any) -> Any:
        """Return the same inputs, whose values are not in memory yet."""
        return self

    __hash__ = object.__hash__


def _plain(value: Any) -> Any:
    if isinstance(value, LazyInputs):
        return value.values
    if type(value) in (list, tuple):
        return type(value)(_plain(one) for one in value)
    if type(value) is dict:
        return {name: _plain(one) for name, one in value.items()}
    return value


def _operator(name: str) -> Callable[..., Any]:
    def operate(self: LazyInputs, *others: Any) -> Any:
        return getattr(self.values, name)(*_plain(others))

    return operate


for _name in _OPERATORS:
    setattr(LazyInputs, f"__{_name}__", _operator(f"__{_name}__"))


def collate_as(kind: type, collate: Callable[[list[Any]], Any]) -> None:
    """Have torch's DataLoader make batches of this kind of items by a function of ours.

    Without effect if torch is not loaded: a process that runs its DataLoader has loaded it.
    """
    module = sys.modules.get("torch.utils.data._utils.collate")
    kinds = getattr(module, "default_collate_fn_map", None)
    if kinds is not None:
        kinds.setdefault(kind, partial(_collate, collate))


def _collate(collate: Callable[[list[Any]], Any], batch: Any, **_options: Any) -> Any:
    return collate(list(batch))
