"""Refuses networks that draw from Python's or numpy's random numbers as they compute.

An exported program has no Python: what was drawn at the export would stay in it as constants, and
look like a property of the network.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import InvalidRequestError

_NETWORK_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a network's own code may raise."""


@contextmanager
def no_draws(network: Any, compute: Callable[[], Any]) -> Iterator[None]:
    """Raise InvalidRequestError if the network drew a number meanwhile, with the module that did.

    `compute` runs the network once more, to find the module. The generators are left as they were.
    """
    before = _states()
    try:
        yield
        sources = _find_changes(before, _states())
        if sources:
            raise _refusal(network, _module_that_draws(network, compute), sources)
    finally:
        _restore(before)


def _states() -> dict[str, Any]:
    of_numpy = np.random.get_state(legacy=False)  # noqa: NPY002 - what users' code calls
    return {"random": random.getstate(), "numpy.random": of_numpy}


def _restore(states: dict[str, Any]) -> None:
    random.setstate(states["random"])
    np.random.set_state(states["numpy.random"])  # noqa: NPY002


def _find_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    changed = [] if before["random"] == after["random"] else ["random"]
    if repr(_place(before)) != repr(_place(after)):
        changed.append("numpy.random")
    return changed


def _place(states: dict[str, Any]) -> tuple[Any, ...]:
    """Return where numpy's generator is, with the first of its numbers."""
    state = states["numpy.random"]
    inner, normal = state["state"], (state["has_gauss"], state["gauss"])
    return (inner["pos"], inner["key"][:8].tolist(), *normal)


def _module_that_draws(network: Any, compute: Callable[[], Any]) -> str:
    """Return the innermost module that draws first; empty for the network itself."""
    started: list[dict[str, Any]] = []
    found: list[str] = []

    def begin(_module: Any, _inputs: Any) -> None:
        started.append(_states())

    def end_of(name: str) -> Callable[..., None]:
        def end(_module: Any, _inputs: Any, _output: Any) -> None:
            if _find_changes(started.pop(), _states()):
                found.append(name)

        return end

    modules = dict(network.named_modules())
    hooks = [module.register_forward_pre_hook(begin) for module in modules.values()]
    hooks += [module.register_forward_hook(end_of(name)) for name, module in modules.items()]
    try:
        compute()
    except _NETWORK_ERRORS:  # the refusal does without the module's name
        return ""
    finally:
        for hook in hooks:
            hook.remove()
    return next(iter(found), "")


def _refusal(network: Any, module: str, sources: list[str]) -> InvalidRequestError:
    part = dict(network.named_modules()).get(module)
    where = f"module {module!r} ({type(part).__name__})" if module else type(network).__name__
    return InvalidRequestError(
        f"{where} draws from {' and '.join(sources)} as it computes, so that activations would "
        "differ from call to call. model.eval() does not change that. Draw the numbers once, in "
        "__init__, or leave them out `if not self.training`."
    )
