"""Valid MATLAB variable names."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 63
"""Largest number of characters in a name: MATLAB's `namelengthmax`."""

_KEYWORDS = frozenset(
    {"break", "case", "catch", "classdef", "continue", "else", "elseif", "end", "for", "function"}
    | {"global", "if", "otherwise", "parfor", "persistent", "return", "spmd", "switch", "try"}
    | {"while"}
)


def valid_name(name: str) -> str:
    """Return a name as MATLAB's `matlab.lang.makeValidName` changes it.

    White space is removed and the letter behind it becomes a capital; any character but ASCII
    letters, digits and underscores becomes `_`; keywords and names that don't begin with a letter
    are prefixed with `x`.
    """
    if name in _KEYWORDS:
        name = name.capitalize()
        return f"x{name}"
    joined = re.sub(r"(?<=\S)\s+([a-z])", lambda match: match[1].upper(), name.strip())
    plain = re.sub(r"[^A-Za-z0-9_]", "_", re.sub(r"\s+", "", joined))
    return (plain if re.match(r"[A-Za-z]", plain) else f"x{plain}")[:LONGEST]


def variable_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Return a valid name for each, different from all others and from the `taken` ones.

    Duplicates get `_1`, `_2` ..., as by `matlab.lang.makeUniqueStrings`.
    """
    used = set(taken)
    numbers: dict[str, int] = {}
    result = []
    for valid in map(valid_name, names):
        unique = valid
        while unique in used:
            numbers[valid] = numbers.get(valid, 0) + 1
            ending = f"_{numbers[valid]}"
            unique = valid[: LONGEST - len(ending)] + ending
        used.add(unique)
        result.append(unique)
    return result
