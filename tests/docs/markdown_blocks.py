"""The blocks of code of a page; runs none of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

_FENCE = re.compile(r"^( *)```(\w*)(?: title=\"[^\"]*\")?\s*$")


@dataclass(frozen=True)
class Block:
    """Code between fences; `line` is the line of the opening fence, from 1."""

    page: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
    opened: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence is not None:
                opened, lines = (number, fence[2]), []
        elif fence is not None and not fence[2]:
            yield Block(page, *opened, dedent("\n".join(lines)) + "\n")
            opened = None
        else:
            lines.append(line)
    assert opened is None, f"{page} has a block without an end"
