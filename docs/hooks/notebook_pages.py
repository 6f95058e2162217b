"""Makes a page, and a notebook to download, of each notebook's source; runs none of them.

Sources are Python (jupytext's `percent`): changes can be read and linted. Pages show the outputs
that the notebooks in `executed` have, which the test that runs the notebooks writes and compares.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FOLDER = Path("notebooks")
_MOST_PIXELS = 720
_STYLE = re.compile("<style.*?</style>", re.DOTALL)
"""What pandas writes before a table; the site has its own."""


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages to those of the site, and take the sources away; MkDocs calls this."""
    for source in sorted((Path(config.docs_dir) / FOLDER).glob("*.py")):
        place = FOLDER / source.stem
        notebook = jupytext.read(source)
        executed = nbformat.read(source.parent / "executed" / f"{source.stem}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
        page = Page(source.stem)
        files.append(_file(config, f"{place}.md", page.markdown(executed)))
        for name, content in page.figures.items():
            files.append(_file(config, str(FOLDER / name), content))
        files.append(_file(config, f"{place}.ipynb", nbformat.writes(notebook)))  # type: ignore[no-untyped-call]
        files.remove(files.src_uris[f"{place}.py"])
    return files


def _file(config: MkDocsConfig, uri: str, content: str | bytes) -> File:
    return File.generated(config, uri, content=content)


class Page:
    """The page of a notebook; `figures` are the files that it shows."""

    def __init__(self, stem: str) -> None:
        self.figures: dict[str, bytes] = {}
        self._stem = stem

    def markdown(self, notebook: Any) -> str:
        """Return the cells, each with its outputs, and a link to the notebook below the title."""
        title, *cells = ["\n\n".join(self._cell(cell)) for cell in notebook.cells]
        link = f"[Download this notebook]({self._stem}.ipynb){{ .md-button download }}"
        return "\n\n".join([title, link, *cells]) + "\n"

    def _cell(self, cell: Any) -> Iterator[str]:
        if cell.cell_type != "code":
            yield str(cell.source)
            return
        yield f"```python\n{cell.source}\n```"
        texts = []
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                yield self._figure(data)
            elif "text/html" in data:
                yield _STYLE.sub("", data["text/html"])
            else:
                texts.append(output.get("text") or data.get("text/plain", ""))
        if text := "".join(texts).rstrip():
            yield f"```text\n{text}\n```"

    def _figure(self, data: Any) -> str:
        name = f"{self._stem}-{len(self.figures) + 1}.png"
        self.figures[name] = b64decode(data["image/png"])
        width = data_width(self.figures[name])
        return f"![Figure of the cell above]({name}){{ width={min(width, _MOST_PIXELS)} }}"


def data_width(png: bytes) -> int:
    """Return the width of a PNG file, pixels."""
    return int.from_bytes(png[16:20], "big")
