"""A model's modules as an indented tree to read; knows no server."""

from __future__ import annotations

from collections.abc import Iterable

from .records import ModuleInfo


def outline(modules: Iterable[ModuleInfo]) -> str:
    """Return a line per module: its name, class and settings, and its output for one image.

    Indented by depth. A module that can't be extracted says why.
    """
    return "\n".join("  " * module.depth + _line(module) for module in modules)


def _line(module: ModuleInfo) -> str:
    kind = f"{module.name or '(model)'}: {module.type}({module.attributes})"
    if not module.extractable:
        return f"{kind}  [not extractable: {module.reason}]"
    shape = " x ".join(map(str, module.output_shape)) or "scalar"
    calls = f", last of {module.call_count} calls" if module.call_count > 1 else ""
    return f"{kind} -> {shape}{calls}"
