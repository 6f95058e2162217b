"""Seeds random initialisation per thread.

PyTorch initialises from one generator for the whole process. Two models that load at the same time
would draw from it in turn, which makes a seed meaningless. Inside `seed_thread`, this thread draws
from a generator of its own, with the results of `torch.manual_seed` in a single-threaded program.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DRAWING_FUNCTIONS = frozenset(
    {
        torch.bernoulli,
        torch.multinomial,
        torch.normal,
        torch.rand,
        torch.randint,
        torch.randn,
        torch.randperm,
        torch.Tensor.bernoulli_,
        torch.Tensor.cauchy_,
        torch.Tensor.exponential_,
        torch.Tensor.geometric_,
        torch.Tensor.log_normal_,
        torch.Tensor.normal_,
        torch.Tensor.random_,
        torch.Tensor.uniform_,
    }
)


@cache
def draws(function: Any) -> bool:
    """Return whether a function draws random numbers.

    Initialisers take a generator: PyTorch's own, and those that `transformers` replaces them with
    while it builds a network.
    """
    if function in _DRAWING_FUNCTIONS:
        return True
    return inspect.isfunction(function) and "generator" in inspect.signature(function).parameters


class _OwnGenerator(TorchFunctionMode):
    """Passes a generator to every function that draws random numbers, in this thread only."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if draws(func) and kwargs.get("generator") is None:
            kwargs["generator"] = self._generator
        return func(*args, **kwargs)


@contextmanager
def seed_thread(seed: int) -> Iterator[None]:
    """Draw this thread's random numbers from a CPU generator with this seed."""
    generator = torch.Generator().manual_seed(seed)
    with _OwnGenerator(generator):
        yield
