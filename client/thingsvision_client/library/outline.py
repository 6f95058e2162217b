"""A model's modules as an indented tree to read; knows no server."""

from __future__ import annotations

from collections.abc import Iterable

from ..values.records import ModuleInfo


def outline(modules: Iterable[ModuleInfo]) -> str:
    """Return a line per module: its name, class and settings, and its output for one image.

    Indented by depth. A module that can't be extracted says why; one that runs several times, how
    to name a call; one whose output is a sequence of tokens, which of them are special; one that
    sees texts, that it does.
    """
    return "\n".join("  " * module.depth + _line(module) for module in modules)


def _line(module: ModuleInfo) -> str:
    kind = f"{module.name or '(model)'}: {module.type}({module.attributes})"
    if not module.extractable:
        return f"{kind}  [not extractable: {module.reason}]"
    shape = " x ".join(map(str, module.output_shape)) or "scalar"
    remarks = [_calls(module), _tokens(module), _modality(module)]
    return ", ".join([f"{kind} -> {shape}", *filter(None, remarks)])


def _calls(module: ModuleInfo) -> str:
    if module.call_count <= 1:
        return ""
    return f"last of {module.call_count} calls (@t=0 to @t={module.call_count - 1}, @all)"


def _tokens(module: ModuleInfo) -> str:
    count = module.prefix_token_count
    if count is None:
        return ""
    return f"tokens: {count} special, {module.output_shape[0] - count} of patches"


def _modality(module: ModuleInfo) -> str:
    return "" if module.modality in ("", "image") else f"of {module.modality}s"
