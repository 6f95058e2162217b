"""Says which names of modules a `torch.export` program can have on this server.

PyTorch writes the names into lists separated by commas and semicolons, and into the Python that it
generates and runs: as attributes, or between double quotes.
"""

from __future__ import annotations

import keyword
import re
import unicodedata

_CALL = re.compile(r"@\d+$")
"""The number of a call, which PyTorch appends to the name of a module that runs several times."""

_SEPARATORS = re.compile(r'[",;@\\]')


def is_module_path(path: str) -> bool:
    """Return whether a path of modules, such as `stem.0.weight`, can be used."""
    return not path or why_not_usable(path) is None


def why_not_usable(path: str) -> str | None:
    """Return why a path can't be used, with the name in it to change; None if it can."""
    for name in _CALL.sub("", path).split("."):
        if why := _why_not(name):
            return (
                f"the name {name!r} of a module or weight in it can't be used: {why}. Rename it, "
                f"for example to {_suggest_name(name)!r}"
            )
    return None


def _why_not(name: str) -> str:
    if not name:
        return "it is empty"
    if found := _SEPARATORS.search(name):
        return f"PyTorch's format gives {found[0]!r} a meaning of its own"
    if not name.isprintable():
        return "it has characters that can't be printed"
    if keyword.iskeyword(name):
        return "it is a word of Python's grammar"
    if name.isidentifier() and unicodedata.normalize("NFKC", name) != name:
        return "Python spells it with other characters of Unicode"
    return ""


def _suggest_name(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name)
    plain = "".join(one if one.isprintable() else "_" for one in _SEPARATORS.sub("_", plain))
    return f"{plain}_" if keyword.iskeyword(plain) or not plain else plain
