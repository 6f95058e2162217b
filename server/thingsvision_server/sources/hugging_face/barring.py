"""Bars modules of a structure from extraction, with a reason; knows no network.

What a network computes is only worth having where all its weights came with the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from ...backends.modules import ModuleInfo, Structure

_LISTED = 4
"""Names of missing weights that a reason gives."""


def barred(structure: Structure, reason_of: Callable[[ModuleInfo], str]) -> Structure:
    """Return a structure in which modules with a reason can't be extracted for that reason."""
    return replace(
        structure, modules=tuple(_barred_module(m, reason_of) for m in structure.modules)
    )


def _barred_module(module: ModuleInfo, reason_of: Callable[[ModuleInfo], str]) -> ModuleInfo:
    reason = reason_of(module)
    if not reason:
        return module
    calls = tuple(replace(call, reason=reason) for call in module.calls)
    return replace(module, calls=calls, reason=reason)


def without_untrained(structure: Structure, missing: Collection[str]) -> Structure:
    """Bar what computes with random numbers: modules that lack weights, and all that follow them.

    A module that has such a part, or begins after one, may put out what depends on it.
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
        return f"the checkpoint has no weights for it or for what it follows ({listed})"

    return barred(structure, reason_of)
