"""Leaves a user's network as it was, whatever its own code stores while it is traced.

Tracing runs the network's code with tensors that have no values. Networks keep such tensors
(`self.act = y`), append them to lists, count their calls; hooks put them into dicts of a script.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType, MethodType, ModuleType
from typing import Any

_CONTAINERS = (dict, list, set, deque)
_LEAVES = (str, bytes, int, float, complex, type, ModuleType)
_MOST_OBJECTS = 1_000_000
"""How many objects are looked at; more than a network has, far less than a whole program."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


@contextmanager
def left_unchanged(network: Any, function: Any = None) -> Iterator[None]:
    """Restore the state of every module of a network, and of what its modules and hooks hold.

    `function` is code of the user that calls the network, if there is any.

    The attributes of modules and of plain objects, and the contents of dicts, lists and sets, are
    restored in place; the values of tensors are not looked at.
    """
    restorers = list(_restorers([network, function]))
    try:
        yield
    finally:
        for restore in restorers:
            restore()


def _restorers(roots: Sequence[Any]) -> Iterator[Callable[[], None]]:
    """Yield a function for each object that can be reached, which restores its present state."""
    seen: dict[int, Any] = {}  # holds each object, so that no other gets its id
    waiting: list[Any] = list(roots)
    while waiting and len(seen) < _MOST_OBJECTS:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _LEAVES) or one is None:
            continue
        seen[id(one)] = one
        waiting += _held_by(one)
        if isinstance(one, _CONTAINERS):
            yield _contents(one)
        elif _has_attributes(one):
            yield _attributes(one)


def _held_by(one: Any) -> list[Any]:
    """Return the objects that an object holds, and that tracing may change."""
    if isinstance(one, dict):
        return list(one.values())
    if isinstance(one, (*_CONTAINERS, tuple)):
        return list(one)
    if isinstance(one, MethodType):
        return [one.__self__, one.__func__]
    if isinstance(one, FunctionType):
        return _containers_of(one)
    if not _has_attributes(one):
        return []
    held = list(vars(one).values())
    if _is_module(one):
        held += [hook for name in _HOOKS for hook in vars(one)[name].values()]
        held.append(getattr(type(one), "forward", None))
    return held


def _containers_of(function: FunctionType) -> list[Any]:
    """Return the containers that a function's code refers to."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # a name that is not bound yet
            continue
    names = function.__code__.co_names
    named = [function.__globals__[name] for name in names if name in function.__globals__]
    return [one for one in [*cells, *named] if isinstance(one, (*_CONTAINERS, MethodType))]


def _has_attributes(one: Any) -> bool:
    """Return whether an object is a module, or a plain object of the user's code."""
    if not hasattr(one, "__dict__") or isinstance(one, (type, FunctionType, MethodType)):
        return False
    return _is_module(one) or not _is_of_torch(one)


def _is_module(one: Any) -> bool:
    return all(name in vars(one) for name in _HOOKS)


def _is_of_torch(one: Any) -> bool:
    return type(one).__module__.partition(".")[0] == "torch"


def _attributes(one: Any) -> Callable[[], None]:
    kind, attributes = type(one), dict(vars(one))

    def restore() -> None:
        if type(one) is not kind:  # a lazy module that became an ordinary one
            one.__class__ = kind
        now = vars(one)
        if list(now) != list(attributes) or not all(map(_is, now.values(), attributes.values())):
            now.clear()
            now.update(attributes)

    return restore


def _contents(one: Any) -> Callable[[], None]:
    before: Any = dict(one) if isinstance(one, dict) else list(one)

    def restore() -> None:
        if isinstance(one, dict):
            same = list(one) == list(before) and all(one[key] is before[key] for key in before)
        else:
            same = len(one) == len(before) and all(map(_is, one, before))
        if not same:
            one.clear()
            (one.update if isinstance(one, (dict, set)) else one.extend)(before)

    return restore


def _is(one: Any, other: Any) -> bool:
    return one is other
