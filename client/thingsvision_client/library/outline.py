"""A model's modules as an indented tree."""

from __future__ import annotations

from collections.abc import Iterable

from ..values.records import ModuleInfo


def outline(modules: Iterable[ModuleInfo]) -> str:
    """Return a line per module: its name, class and settings, and its output for one image.

    Lines are indented by depth. They also say why a module can't be extracted, how to name a call
    of one that runs several times, which tokens of a token sequence are special, and which modules
    see texts.
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
