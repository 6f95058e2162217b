"""Finds the state dicts in a checkpoint: under keys, such as `ema`, or a prefix, such as `module.`.

A part's name is its keys joined by slashes, then its prefix, which ends with a dot: `ema/module.`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import WeightsMismatchError
from .state_dicts import StateDict, state_dicts_in

_WRAPPERS = ("module", "model", "backbone", "encoder", "_orig_mod", "net", "network")
"""Names of modules that training code puts around a network."""

_INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What PyTorch puts into the names of modules that are wrapped inside a network."""

_SHOWN = 6


@dataclass(frozen=True)
class Part:
    """A state dict in a checkpoint, or the tensors in it that have a prefix, without it."""

    keys: tuple[str, ...]
    prefix: str
    state: StateDict

    def __str__(self) -> str:
        return "/".join([*self.keys, *([self.prefix] if self.prefix else [])])

    def is_same(self, other: Part) -> bool:
        """Return whether its tensors are the same memory as another part's."""
        return self._places() == other._places()

    def _places(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        return {name: (one.data_ptr(), tuple(one.shape)) for name, one in self.state.items()}


@dataclass(frozen=True)
class Fit:
    """What decides which part is taken: the names of the network's tensors, and a whole test."""

    names: Collection[str]
    fits: Callable[[StateDict], bool]


def parts_that_fit(checkpoint: Mapping[str, Any], fit: Fit) -> list[Part]:
    """Return the parts of a checkpoint that a network takes, each once."""
    found: list[Part] = []
    for keys, state in state_dicts_in(checkpoint).items():
        for prefix in _prefixes(state, fit.names):
            part = Part(keys, prefix, _with_prefix(state, prefix))
            if 2 * len(part.state) < len(fit.names) or not fit.fits(part.state):
                continue
            if not any(part.is_same(other) for other in found):
                found.append(part)
            if not prefix:  # whatever else fits is a part of it
                break
    return found


def closest_part(
    checkpoint: Mapping[str, Any], names: Collection[str], within: Part | None = None
) -> Part | None:
    """Return the prefixed part with most of a network's names; None if none has half of them.

    It is looked for under the keys of the part `within`.
    """
    best, most = None, len(names) / 2
    inside = within.keys if within else ()
    for keys, state in state_dicts_in(checkpoint).items():
        if keys[: len(inside)] != inside:
            continue
        for prefix in _prefixes(state, names):
            part = Part(keys, prefix, _with_prefix(state, prefix))
            count = sum(name in part.state for name in names)
            if count > most:
                best, most = part, count
    return best if best is not None and best.prefix else None


def find_part(checkpoint: Mapping[str, Any], name: str, called: str) -> Part:
    """Return the part that a user names; raise WeightsMismatchError if there is none.

    A prefix may be named without its last dot.
    """
    keys = tuple(name.split("/")) if name else ()
    prefix = keys[-1] if keys and keys[-1].endswith(".") else ""
    part = _part_at(checkpoint, keys[:-1] if prefix else keys, prefix)
    if not part.state and keys and not prefix:
        part = _part_at(checkpoint, keys[:-1], f"{keys[-1]}.")
    if not part.state:
        raise WeightsMismatchError(
            f"{called} has no part {name!r}. {describe_parts(checkpoint, ())}",
            field="model.weights_part",
            subject=name,
        )
    return part


def _part_at(checkpoint: Mapping[str, Any], keys: tuple[str, ...], prefix: str) -> Part:
    """Return the part under some keys, or the first of them if the rest leads to only one."""
    states = state_dicts_in(checkpoint)
    inside = [one for one in states if one[: len(keys)] == keys]
    state = states[inside[0]] if len(inside) == 1 else states.get(keys, {})
    return Part(keys, prefix, _with_prefix(state, prefix))


def describe_parts(checkpoint: Mapping[str, Any], names: Collection[str]) -> str:
    """Return a sentence on the state dicts of a checkpoint, and the prefixes of their keys.

    Prefixes that the network itself has are left out.
    """
    states = state_dicts_in(checkpoint)
    own = {name.partition(".")[0] for name in names}
    first = {key.partition(".")[0] for state in states.values() for key in state if "." in key}
    listed = ("state dicts", [Part(keys, "", {}) for keys in states if keys])
    prefixed = ("prefixes", [f"{one}." for one in sorted(first - own)])
    both = [(what, list(map(str, some))) for what, some in (listed, prefixed) if some]
    parts = [f"the {what} {_abbreviate(some)}" for what, some in both]
    return f"It has {' and '.join(parts)}." if parts else ""


def _abbreviate(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _prefixes(state: StateDict, names: Collection[str]) -> Iterator[str]:
    """Yield the prefixes to try, the empty one first."""
    yield ""
    first = next(iter(names), "")
    of_network = [name.removesuffix(first) for name in state if name.endswith(f".{first}")]
    of_wrappers = [prefix for name in state for prefix in _wrapper_prefixes(name)]
    around = sorted({*of_network, *of_wrappers}, key=lambda one: (one.count("."), one))
    inside = [f"*{one}" for one in _INSIDE if any(f".{one}" in name for name in state)]
    yield from around
    yield from inside
    yield from (f"{outer}{inner}" for inner in inside for outer in around if inner[1:] not in outer)


def _wrapper_prefixes(name: str) -> Iterator[str]:
    """Yield the leading parts of a tensor's name that are modules around a network."""
    prefix = ""
    for part in name.split(".")[:3]:
        if part not in _WRAPPERS:
            return
        prefix += f"{part}."
        yield prefix


def _with_prefix(state: StateDict, prefix: str) -> StateDict:
    """Return the tensors with a prefix, without it; after `*` it is anywhere in the name."""
    if not prefix:
        return state
    outer, _, inner = prefix.partition("*")
    chosen = {
        name.removeprefix(outer): tensor for name, tensor in state.items() if name.startswith(outer)
    }
    return {name.replace(inner, ""): one for name, one in chosen.items()} if inner else chosen
