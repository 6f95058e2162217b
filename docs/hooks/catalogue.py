"""Puts a table of every model on a page, with a field that searches it.

The facts are those that servers list (`facts.json`). A page asks for it by `<!-- catalogue -->`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

MARK = "<!-- catalogue -->"
FACTS = Path(__file__).parents[2] / "server/thingsvision_server/sources/facts.json"

DATA = {
    "cc12m": "CC12M",
    "clickme": "ClickMe",
    "coco": "COCO",
    "commonpool": "CommonPool",
    "datacomp": "DataComp",
    "datacomp1b": "DataComp-1B",
    "datacompdr": "DataCompDR",
    "datacompxl": "DataComp-1B",
    "dfn2b": "DFN-2B",
    "dfn5b": "DFN-5B",
    "dfndr2b": "DFNDR-2B",
    "ecoset": "ecoset",
    "ig1b": "Instagram (1 billion)",
    "imagenet": "ImageNet-1k",
    "imagenet1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in1k": "ImageNet-1k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "jft": "JFT-300M",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "laion5b": "LAION-5B",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "merged2b": "Merged-2B",
    "metaclip": "MetaCLIP (Common Crawl)",
    "metaclip2": "MetaCLIP 2 (Common Crawl)",
    "nights": "NIGHTS",
    "openai": "OpenAI's pairs of images and texts",
    "sa1b": "SA-1B",
    "sat493m": "SAT-493M",
    "swag": "Instagram (3.6 billion)",
    "webli": "WebLI",
    "yfcc100m": "YFCC100M",
    "yfcc15m": "YFCC15M",
}
"""What parts of the names of weights say of the images of training."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table in the place of its mark; MkDocs calls this for each page."""
    return markdown.replace(MARK, "\n".join(table())) if MARK in markdown else markdown


def table() -> Iterator[str]:
    """Yield the lines of the table, a row per model, below the field that searches it."""
    rows = list(_rows())
    yield '<div class="catalogue" markdown="0">'
    yield (
        '<input type="search" aria-label="Search models" placeholder="'
        'resnet in21k: every word must be in the row">'
    )
    yield f'<p aria-live="polite"><output>{len(rows)}</output> models</p>'
    yield "<table><thead><tr>"
    for title in ("model", "task", "parameters", "input", "weights", "trained on"):
        yield f"<th>{title}</th>"
    yield "</tr></thead><tbody>"
    yield from rows
    yield "</tbody></table></div>"


def _rows() -> Iterator[str]:
    for source, facts in json.loads(FACTS.read_text("utf-8"))["sources"].items():
        for name, model in facts["models"].items():
            tags = [tag for tag, *_ in model["tags"]]
            cells = [
                f"<code>{escape(f'{source}/{name}')}</code>",
                model["task"],
                _count(model["parameter_count"]),
                " × ".join(map(str, model["input_shape"])),
                " ".join(f"<code>{escape(tag)}</code>" for tag in tags),
                "; ".join(dict.fromkeys(text for text in map(training_data, tags) if text)),
            ]
            yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _count(parameters: int | None) -> str:
    return f"{parameters / 1e6:.1f} M" if parameters else ""


def training_data(tag: str) -> str:
    """Return the datasets that a tag names, in the order of training, or an empty text."""
    words = re.split(r"[_.\-]", tag.lower())
    return ", then ".join(dict.fromkeys(DATA[word] for word in words if word in DATA))
