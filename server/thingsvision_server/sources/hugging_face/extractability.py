"""Marks modules of a structure as not extractable, with a reason.

The output of a module is only meaningful if all weights that it depends on are in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from ...backends.modules import ModuleInfo, Structure

_LISTED = 4
"""How many missing weights a reason names."""


def not_extractable(structure: Structure, reason_of: Callable[[ModuleInfo], str]) -> Structure:
    """Return the structure with every module that has a reason marked as not extractable.

    `reason_of` returns an empty string for modules that stay as they are.
    """
    return replace(structure, modules=tuple(_mark(m, reason_of) for m in structure.modules))


def _mark(module: ModuleInfo, reason_of: Callable[[ModuleInfo], str]) -> ModuleInfo:
    reason = reason_of(module)
    if not reason:
        return module
    calls = tuple(replace(call, reason=reason) for call in module.calls)
    return replace(module, calls=calls, reason=reason)


def exclude_untrained(structure: Structure, missing: Collection[str]) -> Structure:
    """Mark modules that depend on random weights: those with missing keys, and all after them.

    The output of a module that contains such a module, or starts after one, may depend on it.
    """
    owners = {name.rpartition(".")[0] for name in missing}
    places = {module.name: place for place, module in enumerate(structure.modules)}
    first: dict[str, int] = {}
    for module in structure.modules:
        if module.name in owners and module.calls:
            first.setdefault(module.modality, places[module.name])

    def reason_of(module: ModuleInfo) -> str:
        prefix = f"{module.name}." if module.name else ""
        inside = any(f"{owner}.".startswith(prefix) for owner in owners)
        after = places[module.name] >= first.get(module.modality, len(places))
        if all(call.reason for call in module.calls) or not (inside or after):
            return ""
        listed = ", ".join(sorted(missing)[:_LISTED])
        return f"the checkpoint has no weights for it or for modules before it ({listed})"

    return not_extractable(structure, reason_of)
