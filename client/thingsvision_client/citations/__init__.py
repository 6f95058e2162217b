"""Works to cite for models, weights and libraries: a table of what their sources name.

`citations.json` has a row per work, with the place where its title and address were read; rules of
which models and tags a work is about; and the works of each source's libraries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

_IN_LATEX = str.maketrans({letter: f"\\{letter}" for letter in "&%#$_"})
"""Letters that mean something else to LaTeX, which reads the entries."""


@dataclass(frozen=True)
class Work:
    """A work to cite. `read` says where its title and address were read; authors if they were."""

    key: str
    title: str
    url: str
    read: str
    year: int | None = None
    authors: str = ""
    journal: str = ""
    doi: str = ""

    def to_bibtex(self) -> str:
        """Return the entry of the work."""
        kind = "article" if self.journal else "misc"
        eprint = re.fullmatch(r"https://arxiv\.org/abs/(.+)", self.url)
        fields = {
            "author": self.authors.translate(_IN_LATEX),
            "title": f"{{{self.title.translate(_IN_LATEX)}}}",
            "journal": self.journal.translate(_IN_LATEX),
            "year": self.year,
            "doi": self.doi,
            "eprint": eprint and eprint[1],
            "archivePrefix": eprint and "arXiv",
            "url": self.url,
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{kind}{{{self.key},", *lines, "}"])


def works_of_model(source: str, name: str) -> list[Work]:
    """Return the works about an architecture, or about the way that it was trained."""
    if source == "timm":
        return _works(_of_timm(name))
    return _works(_find_keys(_table()["models"].get(source, ()), name))


def works_of_weights(source: str, tag: str) -> list[Work]:
    """Return the works about the weights of a tag: their training, or its data."""
    return _works(_find_keys(_table()["weights"].get(source, ()), tag))


def works_of_libraries(source: str) -> list[Work]:
    """Return the works about the libraries that run the models of a source."""
    return _works([*_table()["libraries"].get(source, ()), "thingsvision"])


def _find_keys(rules: Iterable[tuple[str, list[str]]], text: str) -> list[str]:
    return [key for pattern, keys in rules if re.search(pattern, text) for key in keys]


def _of_timm(name: str) -> list[str]:
    """Return the keys of the longest beginning of a name that is known."""
    known = ((start, keys) for starts, keys in _table()["timm"] for start in starts)
    found = [(start, keys) for start, keys in known if name.startswith(start)]
    return max(found, key=lambda one: len(one[0]))[1] if found else []


def _works(keys: Iterable[str]) -> list[Work]:
    rows = _table()["works"]
    return [Work(key=key, **rows[key]) for key in dict.fromkeys(keys)]


@cache
def _table() -> dict[str, Any]:
    text = (files(__name__) / "citations.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
