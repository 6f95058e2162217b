"""The sections of a docstring in Google's style, and the code of its example; runs none of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from textwrap import dedent
from typing import Any

NAMES = ("Args", "Attributes", "Returns", "Yields", "Raises", "Warns", "Example")

_HEAD = re.compile(rf"^({'|'.join(NAMES)}):$")
_ENTRY = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*): \S")
_FENCED = re.compile(r"\A```python\n(.*)\n```\Z", re.DOTALL)


def sections_of(thing: Any) -> Mapping[str, str]:
    """Return the text of each section by its name, without its indentation."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in (inspect.getdoc(thing) or "").splitlines():
        if head := _HEAD.match(line):
            lines = found.setdefault(head[1], [])
        elif line and not line.startswith(" "):
            lines = []
        else:
            lines.append(line)
    return {name: dedent("\n".join(text)).strip() for name, text in found.items()}


def documented_names(section: str) -> list[str]:
    """Return the names of `Args` or `Attributes`, in order, stars included."""
    entries = (_ENTRY.match(line) for line in section.splitlines())
    return [name for entry in entries if entry for name in entry[1].split(", ")]


def code_of(example: str) -> str | None:
    """Return the code of an example; None unless it is one fenced block of Python."""
    fenced = _FENCED.match(example)
    return None if fenced is None or "```" in fenced[1] else fenced[1]
